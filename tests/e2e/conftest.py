"""One whole market of real processes, shared by the tests of this package that one worker runs.

The tests are in groups of about the same length (their `xdist_group`), so that two workers share them.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.local_stack import Stack, engine, images

HEARTBEAT_S = 3
"""A daemon may have been killed just before a beat: two of them have to be longer than it takes to start again on two
busy cores (3 s of one core: its imports)."""


PAUSE_S = 20
"""A sixth of what is published: who waits for it to be over needn't wait for long."""


@pytest.fixture(scope="session")
def image_names() -> dict[str, str]:
    return images()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, image_names: dict[str, str]) -> Iterator[Stack]:
    """Chain, market and two CPU nodes with real containers; a renter with an open vault and an allowance."""
    home: Path = tmp_path_factory.mktemp("stack")
    settings = {"market": {"pause_s": PAUSE_S}}
    running = Stack(home, docker_host=engine(), heartbeat_s=HEARTBEAT_S, settings=settings)
    try:
        running.start_chain()
        running.init_market()
        running.start_market()
        running.create_wallet(deposit="50", payment="100")
        for name in ("alpha", "beta"):
            running.add_node(name, check_image=image_names["busybox"])
            running.start_node(name)
        running.reaver(
            "allow", "grant", "--per-job", "5", "--per-day", "50", "--total", "50", "--max-price-per-hour", "5",
            "--expires", "1d",
        )  # fmt: skip
        yield running
    finally:
        if "REAVER_KEEP_LOGS" in os.environ:
            print(running.last_words())
        running.stop()
