"""docs/openapi.json: what /openapi.json serves, from the same declarations, without a server.

usage: scripts/generate-openapi [--check]
  --check   only compare with the committed copy, and fail on drift

The market is built and not started: no store is opened and no chain asked. Keys are sorted and the server's address is
the page's own, so that the copy depends on the routes alone.
"""

import argparse
import json
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from marketplace.api.openapi import build_openapi
from marketplace.app import Market
from marketplace.chain.bootstrap import OperatorKeys
from marketplace.services.clock import SystemRandom
from marketplace.services.key_ring import create_key_ring
from marketplace.settings import Settings

COPY = Path(__file__).resolve().parent.parent / "docs/openapi.json"


def document() -> str:
    """The copy's text as the declared routes give it."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        create_key_ring(keys / "tokens.json", SystemRandom())
        OperatorKeys.ensure(keys)
        settings = Settings.model_validate({"market": {"data_dir": folder, "keys_dir": keys}})
        routes = Market.build(settings).routes
        described = build_openapi(
            routes, title="Reaver market", version=metadata.version("reaver-market"), server_url="/"
        )
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="write docs/openapi.json from the declared routes")
    parser.add_argument("--check", action="store_true", help="only compare, and fail on drift")
    text = document()
    if not parser.parse_args().check:
        COPY.write_text(text)
    elif not COPY.exists() or COPY.read_text() != text:
        sys.exit("[openapi] docs/openapi.json is not what the routes declare: run scripts/generate-openapi")


if __name__ == "__main__":
    main()
