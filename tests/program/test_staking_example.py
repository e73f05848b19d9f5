"""The worked example of docs/staking.md is what the program prints."""

import os
import subprocess
import sys

import pytest

from scripts.staking_example import BEGIN, END, PAGE
from tests.program.world import ROOT


@pytest.mark.timeout(120)
def test_the_page_shows_what_the_real_program_prints():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.staking_example"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "random"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    assert shown == f"\n```\n{done.stdout}```\n", "scripts/staking-example --write rewrites it"
