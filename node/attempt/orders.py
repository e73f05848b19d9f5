"""What others want of an attempt: the market's commands, the agent's own rules, and the renter's through both.

An order is journalled before it is announced, and the first one to end the attempt counts.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import Command, CommandType
from node.attempt.work import Work, bounds
from node.chain import ChainRefused, ChainSilent
from node.endings import ordered_reason
from node.journal import Step, Stop

_OVER: Final = Stop(Reason.MARKET_ERROR, 0, final=False, detail="the market knows this attempt as over")

_T = TypeVar("_T")


class Stopped(Exception):
    """The attempt is to end; caught by its runner, and by its delivery where the work is over already."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.detail or stop.reason.code)
        self.stop = stop


class Orders:
    """What was ordered so far, and events for who waits for more.

    assigned: the market says that the chain has assigned it. ordered: to end, see the record's `stop`.
    extended: it was given more time. settled: its money is. abandoned: nobody takes its last lines any more.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._disowned = False
        self.assigned = asyncio.Event()
        self.ordered = asyncio.Event()
        self.extended = asyncio.Event()
        self.settled = asyncio.Event()
        self.abandoned = asyncio.Event()
        if work.record.assigned:
            self.assigned.set()
        if work.record.stop is not None:
            self.ordered.set()

    def take(self, command: Command) -> None:
        """Obey a command that names this attempt. Each may come again without harm."""
        work = self._work
        if command.type is CommandType.ASSIGNED:
            if not work.record.assigned:
                work.save(assigned=True)
            self.assigned.set()
        elif command.type is CommandType.STOP:
            self.stop(Stop(ordered_reason(command.reason), command.grace_ms, command.final))
        elif command.type is CommandType.EXTEND and command.extended_ms > work.record.extended_ms:
            work.spawn(self._extend(command))
        elif command.type is CommandType.SETTLED and not self._disowned:
            # Should the work still run, its account is closed: nobody pays for more of it.
            self.stop(_OVER)
            self.settled.set()

    def stop(self, stop: Stop) -> None:
        """End the attempt; the first order counts. Once the work is over an order can still end its delivery."""
        record = self._work.record
        if record.ending is not None and record.ending.reason is stop.reason:
            return  # the order that ended the work, come again
        if record.stop is None and record.step < Step.ENDED:
            self._work.save(stop=stop)
            self.ordered.set()

    def disown(self) -> None:
        """The market knows nothing of it: end the work, and keep what is owed for it until the chain says more."""
        self._disowned = True
        self.stop(_OVER)
        self.abandoned.set()

    def forget(self) -> None:
        """The attempt is over on chain, or the market has no more interest in it: end it and clear it away."""
        self.stop(_OVER)
        self.abandoned.set()
        self.settled.set()

    async def unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The work's result. Raises Stopped when an order to end comes first."""
        task = asyncio.create_task(work)
        ordered = asyncio.create_task(self.ordered.wait())
        try:
            await asyncio.wait({task, ordered}, return_when=asyncio.FIRST_COMPLETED)
            if self._work.record.stop is not None:
                raise Stopped(self._work.record.stop)
            return task.result()
        finally:
            for each in (task, ordered):
                each.cancel()
            await asyncio.gather(task, ordered, return_exceptions=True)

    async def _extend(self, command: Command) -> None:
        """More time and deposit: by the escrow's word where it can be asked, by the market's where it can't."""
        work = self._work
        if work.tools.chain is not None:
            try:
                assignment = await work.tools.chain.look(work.record)
            except (ChainSilent, ChainRefused):
                return  # the next heartbeat's answer says it again
            if assignment.deposit < work.record.request.deposit + command.extended_deposit:
                return
        if command.extended_ms > work.record.extended_ms:
            work.save(extended_ms=command.extended_ms, extended_deposit=command.extended_deposit)
            work.usage.extend(bounds(work.record))
            self.extended.set()
            work.tools.beat_soon()
