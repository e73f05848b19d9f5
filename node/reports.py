"""What one attempt has to tell the market: journalled with the step it tells of, then delivered in order."""

import asyncio
from collections.abc import Callable

from marketplace.protocol.control import FrameType, StateAck, StateReport
from node.control import ControlChannel
from node.errors import MarketRefused
from node.journal import Attempt, Journal
from node.runtime.port import AttemptKey


class Reports:
    """The reports of one attempt. `deliver` is a task of the attempt's own."""

    def __init__(self, journal: Journal, channel: ControlChannel, key: AttemptKey) -> None:
        self._journal = journal
        self._channel = channel
        self._key = key
        self._added = asyncio.Event()
        self._taken = asyncio.Event()

    def waiting(self) -> list[StateReport]:
        """Those that the market has not answered yet, oldest first."""
        return list(self._journal.reports(self._key))

    def add(self, record: Attempt, report: StateReport) -> None:
        """Journal a report together with the record of the step it tells of."""
        self._journal.save_with_report(record, report)
        self._added.set()

    async def deliver(
        self,
        *,
        on_taken: Callable[[StateReport, StateAck], None],
        on_refused: Callable[[StateReport, MarketRefused], None],
    ) -> None:
        """Send every report in order; each waits for its answer. Until cancelled."""
        while True:
            self._added.clear()
            for report in self.waiting():
                try:
                    ack = await self._channel.insist(FrameType.STATE, report, StateAck, names=self._names)
                except MarketRefused as error:
                    on_refused(report, error)
                else:
                    on_taken(report, ack)
                self._journal.drop_report(self._key, report.sequence)
            self._taken.set()
            await self._added.wait()

    async def some_taken(self) -> None:
        """Until `deliver` has got through what was waiting, once more."""
        self._taken.clear()
        await self._taken.wait()

    @property
    def _names(self) -> dict[str, object]:
        return {"allocation": self._key.allocation, "attempt": self._key.attempt}
