"""Is the process alive, and may it be sent work. A part that can't be asked is down, never assumed well."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketplace.domain.quantities import Millis
from marketplace.errors import MarketError
from marketplace.services.clock import Clock

CHECK_TIMEOUT_S: Final = 2.0
"""Chosen: shorter than the timeout of the probes that ask."""


class Lifecycle(StrEnum):
    """Where the process stands: `running` once the start-up sweep is over, `stopped` before and while it ends."""

    STOPPED = "stopped"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """well: running, and every vital part answers. A chain that doesn't is shown, and no reason to restart us."""

    well: bool
    at: Millis
    lifecycle: Lifecycle
    parts: Mapping[str, bool]


Check = Callable[[], Awaitable[None]]
"""Returns when the part is well, raises a MarketError when it is not."""


class Readiness:
    """Checks by name; and the lifecycle, which the composition root moves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._checks: dict[str, tuple[Check, bool]] = {}
        self.lifecycle = Lifecycle.STOPPED

    @property
    def ready(self) -> bool:
        """Whether requests that create may come."""
        return self.lifecycle is Lifecycle.RUNNING

    @property
    def now(self) -> Millis:
        """When this was asked."""
        return self._clock.now()

    def add(self, name: str, check: Check, *, vital: bool) -> None:
        """Register a part. vital: without it the process is unwell."""
        self._checks[name] = (check, vital)

    async def report(self) -> HealthReport:
        """Ask every part at once, each within CHECK_TIMEOUT_S."""
        answers = await asyncio.gather(*(_is_well(check) for check, _ in self._checks.values()))
        parts = dict(zip(self._checks, answers, strict=True))
        well = self.ready and all(parts[name] for name, (_, vital) in self._checks.items() if vital)
        return HealthReport(well, self._clock.now(), self.lifecycle, parts)


async def _is_well(check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check()
    except (MarketError, TimeoutError):
        return False
    return True
