"""Drives one attempt through its life, and is all of it that the agent sees."""

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Final

import structlog

from marketplace.crash import crash_point
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AllocationBeat, AttemptState, Command, Countersignature, Refusal
from marketplace.protocol.terms import JobSpec
from node.attempt.billing import Billing
from node.attempt.checkpointing import Checkpointing
from node.attempt.claiming import Claiming
from node.attempt.delivering import Delivering
from node.attempt.finishing import Over, ended_unseen
from node.attempt.orders import Orders, Stopped
from node.attempt.output import LOG_END_S, Output
from node.attempt.preparing import Preparing
from node.attempt.running import Running
from node.attempt.telling import Telling
from node.attempt.work import Terms, Tools, Work
from node.errors import InputUnavailable
from node.journal import Attempt, Ending, Step, Stop
from node.reports import Reports
from node.runtime.errors import (
    AttemptConflict,
    CapabilityMissing,
    ContainerVanished,
    ImageUnavailable,
    PullFailed,
    StartFailed,
)
from node.transfers import LeaseLost

_STATES: Final = {
    Step.CLAIMED: AttemptState.CLAIMED,
    Step.STARTING: AttemptState.PULLING,
    Step.READY: AttemptState.RUNNING,
    Step.ENDED: AttemptState.EXITED,
    Step.CLEARED: AttemptState.EXITED,
}

# What ends an attempt by an error, and whether the last voucher then closes the escrow.
_FAILURES: Final[dict[type[Exception], tuple[Reason, bool]]] = {
    ImageUnavailable: (Reason.IMAGE_UNAVAILABLE, True),
    InputUnavailable: (Reason.INPUT_UNAVAILABLE, True),
    PullFailed: (Reason.PULL_FAILED, False),
    StartFailed: (Reason.START_TIMEOUT, False),
    CapabilityMissing: (Reason.START_TIMEOUT, False),
    AttemptConflict: (Reason.START_TIMEOUT, False),
    ContainerVanished: (Reason.NODE_QUIT, False),
    LeaseLost: (Reason.NODE_QUIT, False),
}

_log = structlog.get_logger("node.attempt")


class AttemptRunner:
    """Drives one attempt. `run` is its one task; everything else is called from the agent."""

    def __init__(self, record: Attempt, spec: JobSpec, tools: Tools, terms: Terms) -> None:
        self._work = work = Work(record, spec, tools, terms)
        self._orders = orders = Orders(work)
        self._output = Output(work)
        self._reports = Reports(tools.journal, tools.channel, record.key)
        ready_taken = record.step >= Step.READY and not any(
            report.state is AttemptState.READY for report in self._reports.waiting()
        )
        self._billing = Billing(work, self._output, ready_taken=ready_taken)
        self._telling = Telling(work, self._reports, self._billing, orders)
        checkpointing = Checkpointing(work, orders)
        self._claiming = Claiming(work, orders)
        self._preparing = Preparing(work, orders, self._claiming, self._telling)
        self._running = Running(work, orders, self._billing, self._telling, checkpointing)
        self._delivering = Delivering(work, orders, self._telling, checkpointing)

    @property
    def record(self) -> Attempt:
        """The attempt as journalled."""
        return self._work.record

    @property
    def slots(self) -> int:
        """Slots that it holds; none once its container is gone."""
        return 0 if self.record.step is Step.CLEARED else self._work.spec.gpu_count

    @property
    def state(self) -> AttemptState:
        """How far it is, in the protocol's words."""
        if self.record.step is Step.READY and self.record.ending is not None:
            return AttemptState.UPLOADING
        return _STATES[self.record.step]

    @property
    def image(self) -> str:
        """The image as the renter wrote it."""
        return self._work.spec.image

    # --- what the agent tells it ---------------------------------------------------------------------------------

    def on_command(self, command: Command) -> None:
        """Obey a command that names this attempt. Each may come again without harm."""
        self._orders.take(command)

    def stop(self, stop: Stop) -> None:
        """End the attempt; the first order counts. Once the work is over an order can still end its delivery."""
        self._orders.stop(stop)

    def disown(self) -> None:
        """The market knows nothing of it: end the work, and keep what is owed for it until the chain says more."""
        self._orders.disown()

    def forget(self) -> None:
        """The attempt is over on chain, or the market has no more interest in it: end it and clear it away."""
        self._orders.forget()

    def on_countersigned(self, countersignature: Countersignature) -> None:
        """The meter has signed a voucher of ours."""
        self._billing.on_countersigned(countersignature)

    def on_refused(self, refusal: Refusal) -> None:
        """The meter has not signed one."""
        self._billing.on_refused(refusal)

    # --- what the agent takes from it ----------------------------------------------------------------------------

    def beat(self) -> AllocationBeat | None:
        """Its part of a heartbeat, with a new voucher while the meter runs; None before the lease."""
        if self.record.lease_token is None:
            return None
        return AllocationBeat(
            allocation_id=self.record.key.allocation,
            attempt=self.record.key.attempt,
            lease_token=self.record.lease_token,
            state=self.state,
            progress=self._running.progress(),
            voucher=self._billing.show(),
            extended_ms=self.record.extended_ms,
            used=self._running.used,
        )

    # --- its life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the attempt is forgotten. Cancelling it leaves the container alone, for the next daemon."""
        try:
            if not await self._claiming.hold_lease():
                return
            telling = self._telling
            self._work.spawn(self._reports.deliver(on_taken=telling.on_taken, on_refused=telling.on_refused))
            if self.record.step < Step.ENDED:
                await self._end(await self._live())
            await self._clear()
        finally:
            await self._work.end_tasks()

    async def _live(self) -> Ending:
        """From where the journal stands to the end of the work."""
        try:
            if self.record.step < Step.READY:
                container = await self._preparing.until_started()
                self._running.begin(container, self._claiming.assigned_at_ms)
            self._output.start()
            if self.record.ending is None:
                over = await self._running.until_over()
            else:
                over = Over(self.record.ending, await self._work.look())
            return await self._delivering.delivered(over)
        except Stopped as error:
            return ended_unseen(self._work, error.stop.reason, final=error.stop.final, detail=error.stop.detail)
        except tuple(_FAILURES) as error:
            reason, final = next(end for kind, end in _FAILURES.items() if isinstance(error, kind))
            return ended_unseen(self._work, reason, final=final, detail=str(error))
        except Exception as error:  # noqa: BLE001 - the edge of an attempt; reported and logged
            # Nobody foresaw it. The container must not run on unseen: the renter's work goes on at another node.
            _log.exception("a fault of this node", action="attempt_fault", **self._work.names)
            with contextlib.suppress(ContainerVanished):
                await self._work.engine(partial(self._work.tools.runtime.stop, self.record.key, grace_s=0))
            detail = f"a fault of the node: {type(error).__name__}"
            return ended_unseen(self._work, Reason.NODE_QUIT, final=False, detail=detail)

    async def _end(self, end: Ending) -> None:
        """Sign the last voucher and write down that the market has to take it."""
        await self._output.read_to_end()
        crash_point("node.before_final_voucher")
        self._telling.tell_exit(end)
        crash_point("node.after_final_voucher")
        facts = {"reason": end.reason.code, "exit_code": end.exit_code, "detail": end.detail}
        _log.info("ended", action="ended", **facts, **self._work.names)

    async def _clear(self) -> None:
        """Deliver what is left, clear the machine, and wait until the money is settled."""
        work, orders, key = self._work, self._orders, self.record.key
        if self.record.step is Step.ENDED:
            if self.record.started_at_ms is not None:
                self._output.start()
            await _first(orders.abandoned.wait(), self._settled_for_long(), self._output.sent())
            await work.engine(partial(work.tools.runtime.remove, key))
            work.save(step=Step.CLEARED)
            work.tools.beat_soon()
        await _first(orders.settled.wait(), self._nothing_owed())
        work.tools.journal.forget(key)
        _log.info("forgotten", action="forgotten", **work.names)

    async def _settled_for_long(self) -> None:
        """The money is settled; the last lines of output get a while more to be taken."""
        await self._orders.settled.wait()
        await asyncio.sleep(LOG_END_S)

    async def _nothing_owed(self) -> None:
        """Returns when the market has taken the last report of an attempt that was never ready."""
        while self.record.voucher is not None or self._reports.waiting():
            await self._reports.some_taken()


async def _first(*waits: Coroutine[None, None, object]) -> None:
    """Until one of them is done; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
