"""What the parts of one attempt share: its record as journalled, and what they work with."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from marketplace.protocol.terms import JobSpec
from node.chain import Chain
from node.clock import ChainClock, Clock
from node.control import ControlChannel
from node.journal import Attempt, Journal, Step
from node.keys import KeyPair
from node.metering import Bounds, Identity
from node.runtime.errors import EngineUnavailable
from node.runtime.port import Container, Runtime
from node.transfers import Holder, Transfers
from node.usage import Usage

ENGINE_RETRY_S: Final = 1.0

_log = structlog.get_logger("node.attempt")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Terms:
    """Limits that hold for every attempt.

    claim_limit_ms: how long a claim stays live.
    """

    claim_limit_ms: int
    max_image_bytes: int
    log_limit_bytes: int


@dataclass(frozen=True, slots=True)
class Tools:
    """What every attempt works with; one set per daemon. pause_ms: how long a job is held at its limit."""

    journal: Journal
    runtime: Runtime
    channel: ControlChannel
    clock: Clock
    key: KeyPair
    identity: Identity
    chain: Chain | None
    beat_soon: Callable[[], None]
    chain_clock: ChainClock
    pause_ms: Callable[[], int]
    transfers: Transfers


class Work:
    """One attempt as it stands. Whoever changes `record` does so by `save`, or together with a report."""

    def __init__(self, record: Attempt, spec: JobSpec, tools: Tools, terms: Terms) -> None:
        self.record = record
        self.spec = spec
        self.tools = tools
        self.terms = terms
        self.usage = Usage(tools.identity, tools.key, bounds(record))
        if record.started_at_ms is not None:
            self.usage.resume(record, record.started_at_ms)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def metering(self) -> bool:
        """Whether the work goes on: its time is over as soon as its end is known, while its outputs still travel."""
        return self.record.step is Step.READY and self.record.ending is None

    @property
    def names(self) -> dict[str, object]:
        """What log lines call it."""
        return {"allocation": self.record.key.allocation, "attempt": self.record.key.attempt}

    @property
    def lease_token(self) -> str:
        """Names us in everything that follows the market's lease."""
        if self.record.lease_token is None:
            raise AssertionError("reports, logs and files follow the lease")
        return self.record.lease_token

    @property
    def holder(self) -> Holder:
        """Whose files are moved."""
        return Holder(self.record.key, self.lease_token)

    def now_ms(self) -> int:
        """Chain time now, by the attempt's own anchor."""
        return self.record.anchor.now_ms(self.tools.clock)

    def save(self, **changes: Any) -> None:
        """Journal these changes of the record."""
        self.record = replace(self.record, **changes)
        self.tools.journal.save(self.record)

    async def engine(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until the engine answers: nothing may be concluded from its silence."""
        while True:
            try:
                return await call()
            except EngineUnavailable as error:
                _log.warning("engine silent", action="engine_silent", error=str(error), **self.names)
                await asyncio.sleep(ENGINE_RETRY_S)

    async def look(self) -> Container | None:
        """Its container as it is now; None where there is none."""
        return await self.engine(partial(self.tools.runtime.find, self.record.key))

    @property
    def busy(self) -> bool:
        """Whether work goes on beside its life."""
        return bool(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work beside its life; `end_tasks` ends it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)
        return task

    async def end_tasks(self) -> None:
        """Cancel what goes on beside its life."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background work failed", action="attempt_failed", exc_info=error, **self.names)


def bounds(record: Attempt) -> Bounds:
    """What the attempt may bill at most, with what was added since its claim."""
    return Bounds.of(record.request, record.extended_ms, record.extended_deposit)
