"""An earlier attempt's checkpoint on its way here: unbilled, with limits of its own beside the start limit.

It goes on as long as bytes arrive, up to RESTORE_LIMIT_MS in all. When it began is journalled: a daemon that dies
meanwhile begins the transfer anew, not its limit.
"""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from marketplace.domain.reasons import Reason
from marketplace.domain.timing import RESTORE_LIMIT_MS, RESTORE_SILENCE_MS
from node.attempt.orders import Stopped
from node.attempt.work import Work
from node.journal import Stop

_SILENT: Final = Stop(
    Reason.START_TIMEOUT,
    0,
    final=False,
    detail=f"the checkpoint stopped arriving: nothing of it came for {RESTORE_SILENCE_MS // 1000} s",
)
_LATE: Final = Stop(
    Reason.START_TIMEOUT, 0, final=False, detail=f"the checkpoint did not arrive within {RESTORE_LIMIT_MS // 1000} s"
)

_log = structlog.get_logger("node.attempt")


class Restoring:
    """What an attempt takes over from the one before it."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def spent_ms(self) -> int:
        """How long it took, or has taken until now: the start limit is so much longer."""
        record = self._work.record
        if record.restoring_at_ms is None:
            return 0
        until_ms = self._work.now_ms() if record.restored_at_ms is None else record.restored_at_ms
        return max(0, until_ms - record.restoring_at_ms)

    async def restore(self, folder: Path) -> None:
        """Make the folder what the latest checkpoint says, if there is one.

        Raises Stopped when it stalls or takes too long; InputUnavailable, OutputRefused, LeaseLost.
        """
        work, loop = self._work, asyncio.get_running_loop()
        if work.record.restoring_at_ms is None or work.record.restored_at_ms is not None:
            # After a restart: what came before is gone, the limit goes on from the first time.
            began_ms = work.now_ms() if work.record.restoring_at_ms is None else work.record.restoring_at_ms
            work.save(restoring_at_ms=began_ms, restored_at_ms=None)
        left_ms = RESTORE_LIMIT_MS - self.spent_ms()
        silence_s = RESTORE_SILENCE_MS / 1000
        silent = asyncio.timeout(silence_s)
        try:
            async with asyncio.timeout(max(0, left_ms) / 1000), silent:
                found = await work.tools.transfers.restore_checkpoint(
                    work.holder, folder, on_bytes=lambda: silent.reschedule(loop.time() + silence_s)
                )
        except TimeoutError as error:
            raise Stopped(_SILENT if silent.expired() else _LATE) from error
        work.save(restored_at_ms=work.now_ms())
        if found:
            _log.info("goes on from a checkpoint", action="checkpoint_restored", **work.names)
