"""docs/localnet.md names every method that there is, and none that there isn't."""

import re
from pathlib import Path

from marketplace.localnet.chain import Chain
from marketplace.localnet.config import ChainConfig
from marketplace.localnet.rpc.methods import Methods

OWN = {"localnetInfo", "localnetFaucet"}  # described in a section of their own


def test_the_page_lists_the_methods() -> None:
    page = (Path(__file__).parents[2] / "docs" / "localnet.md").read_text()
    section = page.split("## What it answers")[1].split("WebSocket:")[0]
    chain = Chain.in_memory(ChainConfig())
    try:
        assert set(re.findall(r"`([a-z]\w+)`", section)) == Methods(chain).names - OWN
    finally:
        chain.close()
