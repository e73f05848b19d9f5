"""The folders of the demo's runs: whose is still needed, and what a run that ended badly left behind.

A run holds a lock on its folder for as long as it lives, so the kernel says whether it does, after any kind of end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from typing import TYPE_CHECKING

from scripts.local_stack import ROOT, clean
from scripts.processes import end_all_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOME = ROOT / ".reaver" / "demo"
_LOCK = "lock"
_KEPT = "kept"


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """A folder of this run's own, marked as in use until the block ends."""
    HOME.mkdir(parents=True, exist_ok=True)
    with _alone():
        home = HOME / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        home.mkdir()
        held = _hold(home)
    try:
        yield home
    finally:
        os.close(held)


def keep(home: Path) -> None:
    """Leaves what runs in this folder to `--stop`."""
    (home / _KEPT).touch()


def kept() -> list[Path]:
    """Folders whose market was left up on purpose."""
    return sorted(marker.parent for marker in HOME.glob(f"*/{_KEPT}"))


def abandoned() -> list[Path]:
    """Folders of runs that live no more and were not kept: killed ones."""
    return [home for home in _unused() if not (home / _KEPT).exists()]


def remove(home: Path) -> list[str]:
    """Ends what still runs in the folder, and removes its containers, rules and files; returns the programs' names."""
    ended = end_all_in(home)
    for config in home.glob("*/config.toml"):
        clean(config)
    shutil.rmtree(home, ignore_errors=True)
    return ended


def _unused() -> list[Path]:
    if not HOME.exists():
        return []
    found = []
    with _alone():
        for home in sorted(path for path in HOME.iterdir() if path.is_dir()):
            try:
                os.close(_hold(home))
            except BlockingIOError:
                continue
            found.append(home)
    return found


def _hold(home: Path) -> int:
    """The folder's lock. Raises BlockingIOError while a run holds it."""
    held = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise
    return held


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other demo makes a folder meanwhile, so that none is seen without its lock."""
    held = os.open(HOME / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
