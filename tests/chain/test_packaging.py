"""What an installed package needs beside its modules."""

import tomllib
from pathlib import Path

from marketplace.chain import program

ROOT = Path(__file__).parents[2]


def test_a_wheel_has_the_idl_where_the_codec_looks_for_it():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packaged = Path(program.__file__).with_name("idl") / program.idl_path().name
    assert wheel["force-include"] == {
        str(program.idl_path().relative_to(ROOT)): str(packaged.relative_to(ROOT)),
    }
