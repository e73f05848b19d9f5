"""The README's Python example runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.client.fake_market import FakeMarket

README = Path(__file__).parents[3] / "README.md"


def test_the_example_of_the_readme_runs(market: FakeMarket, environment: dict[str, str]) -> None:
    example = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert example is not None
    done = subprocess.run(
        [sys.executable, "-c", example[1]],
        env=os.environ | environment | {"REAVER_API": market.base_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "completed 0.000400 USDC\n"), done.stderr
    assert len(market.signed) == 1
