"""What the work left behind, on its way to the market: its last checkpoint, then its outputs.

Its time was over before: delivery is not billed.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

from marketplace.crash import crash_point
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState
from marketplace.protocol.outputs import manifest_digest
from node.attempt.checkpointing import Checkpointing
from node.attempt.finishing import Over
from node.attempt.orders import Orders, Stopped
from node.attempt.telling import Telling
from node.attempt.work import Work
from node.checkpoints import is_empty
from node.collecting import find_files
from node.endings import REQUEUING
from node.journal import Ending
from node.transfers import LeaseLost, OutputRefused, OutputTooLarge


class Delivering:
    """From the end of the work until everything of it is where it belongs."""

    def __init__(self, work: Work, orders: Orders, telling: Telling, checkpointing: Checkpointing) -> None:
        self._work = work
        self._orders = orders
        self._telling = telling
        self._checkpointing = checkpointing

    async def delivered(self, over: Over) -> Ending:
        """The end as the market is to hear it, once what the work left is with the market.

        What is delivered by an order to end stays delivered; so does what came before a refusal.
        """
        work, end, container = self._work, over.ending, over.container
        outputs = None if container is None or end.reason in REQUEUING else container.outputs
        checkpoint = None if container is None or not self._checkpointed(end) else container.checkpoint
        if work.record.ending is None:
            if not (await _holds_outputs(outputs) or await _holds_checkpoint(checkpoint)):
                return end
            # The order that ended the work is obeyed; another one that comes now ends the delivery.
            self._orders.ordered.clear()
            self._telling.tell(AttemptState.UPLOADING, reason=end.reason, ending=end, stop=None)
            work.tools.beat_soon()
        crash_point("node.uploading")
        return await self._deliver(end, outputs, checkpoint)

    def _checkpointed(self, end: Ending) -> bool:
        """Whether the last state of /checkpoint is worth keeping: not after an end that nobody goes on from."""
        return self._work.spec.checkpoint_minutes is not None and end.reason is not Reason.COMPLETED

    async def _deliver(self, end: Ending, outputs: Path | None, checkpoint: Path | None) -> Ending:
        """Into the market's hands, and where no other attempt follows from there to where the renter wants them."""
        orders, transfers, holder = self._orders, self._work.tools.transfers, self._work.holder
        try:
            if checkpoint is not None:
                await self._checkpointing.save_last(checkpoint)
            if outputs is None:
                return end
            files = await orders.unless_stopped(transfers.deliver(holder, outputs))
            end = replace(end, outputs=manifest_digest(files).hex() or None)
            if files and end.final:
                await orders.unless_stopped(transfers.hand_over(holder))
        except Stopped as stopped:
            stop = stopped.stop
            return replace(end, reason=stop.reason, final=stop.final, detail=stop.detail or None)
        except LeaseLost as error:
            return replace(end, reason=Reason.NODE_QUIT, final=False, detail=str(error))
        except OutputTooLarge as error:
            return replace(end, reason=Reason.OUTPUT_TOO_LARGE, final=True, detail=str(error))
        except OutputRefused as error:
            return replace(end, reason=Reason.OUTPUT_DELIVERY_FAILED, final=True, detail=str(error))
        return end


async def _holds_outputs(folder: Path | None) -> bool:
    return folder is not None and bool(await asyncio.to_thread(find_files, folder, most=0))


async def _holds_checkpoint(folder: Path | None) -> bool:
    return folder is not None and not await asyncio.to_thread(is_empty, folder)
