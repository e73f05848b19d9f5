"""/checkpoint on its way to the market: every so often while the work runs, and once more at its end."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import structlog

from node.attempt.orders import Orders
from node.attempt.work import Work
from node.checkpoints import CheckpointChanged, TooMuch, is_empty
from node.runtime.port import Container
from node.transfers import LeaseLost, OutputRefused

_MINUTE_S: Final = 60.0
# Chosen: a job that writes a checkpoint is done with it in seconds, or writes all the time.
_TRIES: Final = 5
_PAUSE_S: Final = 2.0
# Chosen: half of what the market gives an attempt to deliver what it left.
_END_S: Final = 900.0

_log = structlog.get_logger("node.attempt")


class Checkpointing:
    """What an attempt hands on to the next one."""

    def __init__(self, work: Work, orders: Orders) -> None:
        self._work = work
        self._orders = orders

    async def save_for_ever(self, container: Container | None) -> None:
        """Send the job's checkpoint every so often, where it asked for that."""
        minutes = self._work.spec.checkpoint_minutes
        if minutes is None or container is None or container.checkpoint is None:
            return
        while True:
            await asyncio.sleep(minutes * _MINUTE_S)
            try:
                await self._save(container.checkpoint)
            except LeaseLost:
                return  # the next report says so, too

    async def save_last(self, folder: Path) -> None:
        """Once more after the end of the work, as far as there is time for it. Raises Stopped, LeaseLost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._orders.unless_stopped(self._save(folder))

    async def _save(self, folder: Path) -> None:
        """Once; what can't be saved now leaves the one before it in place. Raises LeaseLost."""
        work = self._work
        if await asyncio.to_thread(is_empty, folder):
            return
        why = "it was written to all the while"
        for _ in range(_TRIES):
            try:
                await work.tools.transfers.save_checkpoint(work.holder, folder)
            except CheckpointChanged:
                await asyncio.sleep(_PAUSE_S)
            except (TooMuch, OutputRefused, OSError) as error:
                why = str(error)
                break
            else:
                _log.info("checkpoint saved", action="checkpoint_saved", **work.names)
                return
        _log.warning("checkpoint not saved", action="checkpoint_not_saved", error=why, **work.names)
