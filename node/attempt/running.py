"""The work's time: from ready until the container exits, an order comes, or the limit is reached and nobody adds to it.

Held at its limit the work is not billed, and goes on when more time comes before the hold is over.
"""

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from marketplace.crash import crash_point
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState, Used
from node.attempt.billing import Billing
from node.attempt.checkpointing import Checkpointing
from node.attempt.finishing import Over, ended_by_itself, ended_by_order
from node.attempt.orders import Orders
from node.attempt.telling import Telling
from node.attempt.work import Work
from node.clock import Anchor
from node.collecting import read_progress
from node.journal import Step, Stop
from node.runtime.errors import EngineUnavailable
from node.runtime.port import Container

# Chosen: finer than most heartbeats and coarse enough to cost nothing.
_MEASURE_S: Final = 5.0

_log = structlog.get_logger("node.attempt")


class Running:
    """used: what the container has used, as last looked at."""

    def __init__(
        self, work: Work, orders: Orders, billing: Billing, telling: Telling, checkpointing: Checkpointing
    ) -> None:
        self.used: Used | None = None
        self._work = work
        self._orders = orders
        self._billing = billing
        self._telling = telling
        self._checkpointing = checkpointing
        self._notes: Path | None = None

    def progress(self) -> int | None:
        """What the job says of itself, 0 to 100; None while it says nothing, or does not run."""
        if self._notes is None or self._work.record.step is not Step.READY:
            return None
        return read_progress(self._notes)

    def begin(self, container: Container, assigned_at_ms: int) -> None:
        """The meter is on: the attempt's time is set by the chain's once more, and from here on runs by ours.

        The program refuses a start before the assignment; one that lies ahead of the chain would be refused with all
        that follows it.
        """
        work = self._work
        now = max(self._billing.showable_ms(), assigned_at_ms)
        work.usage.resume(work.record, now)
        anchor = Anchor.set(work.tools.clock, now)
        self._telling.tell(AttemptState.READY, started_at_ms=now, step=Step.READY, anchor=anchor)
        crash_point("node.running")
        _log.info("ready", action="ready", container=container.container_id, **work.names)

    async def until_over(self) -> Over:
        """Until the container exits, an order comes, or the limit is reached. Raises ContainerVanished."""
        work, runtime, key = self._work, self._work.tools.runtime, self._work.record.key
        # Where it leaves its notes, and whether it runs: it may have ended while no daemon looked.
        container = await work.look()
        if container is not None:
            self._notes = container.notes
            self._billing.runs = container.outcome is None
        exited = asyncio.create_task(work.engine(partial(runtime.wait, key)))
        ordered = asyncio.create_task(self._orders.ordered.wait())
        measuring = asyncio.create_task(self._measure_for_ever())
        saving = asyncio.create_task(self._checkpointing.save_for_ever(container))
        try:
            while True:
                await self._until_limit(exited, ordered)
                if exited.done():
                    self._billing.runs = False
                    return await ended_by_itself(work, exited.result())
                if ordered.done() or not await self._held(exited, ordered):
                    break
            reason = Reason.OUT_OF_FUNDS if work.usage.bounds.ends_for_want_of_funds else Reason.TIMEOUT
            self._orders.stop(Stop(reason, work.spec.stop_grace_s * 1000, final=True))  # an earlier order goes before
            return await self._obey_stop()
        finally:
            # Whatever is still to be read and delivered: time after the end is nobody's, and is shown to no meter.
            self._billing.runs = False
            for task in (exited, ordered, measuring, saving):
                task.cancel()
            await asyncio.gather(exited, ordered, measuring, saving, return_exceptions=True)

    async def _until_limit(self, *before: asyncio.Task[Any]) -> None:
        """Until the limit is reached, or one of these is done. A concession or an extension moves the limit."""
        work = self._work
        while (left := work.usage.series.limit_at_ms - work.now_ms()) > 0 and work.record.paused_at_ms is None:
            self._orders.extended.clear()
            await self._any_of(*before, timeout_ms=left)
            if any(task.done() for task in before):
                return

    async def _held(self, *before: asyncio.Task[Any]) -> bool:
        """At the limit: hold the container, unbilled, until there is more time. False: there was none in time.

        True also when one of `before` was done first. Written down before it is done: a daemon that dies in between
        finds it held, or holds it, and the market hears of it.
        """
        work, runtime, key = self._work, self._work.tools.runtime, self._work.record.key
        window_ms = work.tools.pause_ms()
        if work.record.paused_at_ms is None:
            if window_ms <= 0:
                return False
            at_ms = work.usage.series.limit_at_ms
            work.usage.pause(at_ms)
            self._telling.tell(AttemptState.PAUSED, paused_at_ms=at_ms)
            _log.info("held at its limit", action="paused", **work.names)
        if not await work.engine(partial(runtime.pause, key)):
            # It has just ended, or nothing can be held here.
            found = await work.look()
            return found is None or found.outcome is not None
        until_ms = (work.record.paused_at_ms or 0) + window_ms
        while work.usage.bounds.limit_ms <= self._limit_held_at():
            left = until_ms - work.now_ms()
            if left <= 0:
                return False
            self._orders.extended.clear()
            await self._any_of(*before, timeout_ms=left)
            if any(task.done() for task in before):
                return True
        await work.engine(partial(runtime.resume, key))
        work.usage.go_on(work.now_ms())
        series = work.usage.series
        self._telling.tell(AttemptState.RUNNING, paused_at_ms=None, paused_ms=series.paused_ms)
        work.tools.beat_soon()
        _log.info("goes on", action="resumed", paused_ms=series.paused_ms, **work.names)
        return True

    def _limit_held_at(self) -> int:
        """Billed milliseconds at which it was held."""
        series = self._work.usage.series
        paused_at_ms = self._work.record.paused_at_ms or 0
        return paused_at_ms - series.started_at_ms - series.conceded_ms - series.paused_ms

    async def _any_of(self, *tasks: asyncio.Task[Any], timeout_ms: int) -> None:
        """Until one is done, more time came, or this time has passed. The tasks go on."""
        more = asyncio.create_task(self._orders.extended.wait())
        try:
            await asyncio.wait({*tasks, more}, timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()
            await asyncio.gather(more, return_exceptions=True)

    async def _obey_stop(self) -> Over:
        work, stop = self._work, self._work.record.stop
        if stop is None:
            raise AssertionError("an order is journalled before it is announced")
        halt = partial(work.tools.runtime.stop, work.record.key, grace_s=stop.grace_ms / 1000)
        outcome = await work.engine(halt)
        self._billing.runs = False
        return await ended_by_order(work, stop, outcome)

    async def _measure_for_ever(self) -> None:
        """What the container uses, looked at now and then for the heartbeats; a look that fails is left out."""
        while True:
            with contextlib.suppress(EngineUnavailable):
                used = await self._work.tools.runtime.measure(self._work.record.key)
                if used is not None:
                    self.used = Used(
                        cpu_ms=used.cpu_ms,
                        memory_bytes=used.memory_bytes,
                        received_bytes=used.received_bytes,
                        sent_bytes=used.sent_bytes,
                        gpu_percent=used.gpu_percent,
                        gpu_memory_bytes=used.gpu_memory_bytes,
                    )
            await asyncio.sleep(_MEASURE_S)
