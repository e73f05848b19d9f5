"""Composition of the crank that a market runs beside its work: epochs, contests, dead escrows, the protocol's fees.

Part of the composition root (`marketplace.app`). Anybody may do the same (`reaver crank`); the program takes each act
once, whoever is first. It runs under a lease, so that replicas of one market don't pay for each other's refusals.
"""

from typing import Final

import structlog

from marketplace.chain.bootstrap import OperatorKeys
from marketplace.chain.errors import ChainError
from marketplace.chain.hotkeys import METER_CALLS, HotKey
from marketplace.chain.sender import Sender
from marketplace.services.chain_events import ChainEvents
from marketplace.services.chain_link import ChainLink
from marketplace.services.clock import Clock
from marketplace.services.crank import CrankReport, CrankRules, crank_once
from marketplace.services.crank_chain import SolanaCrank

_log = structlog.get_logger(__name__)

_ROUND: Final = CrankRules(transactions=4, patience_ms=60_000)
"""Chosen: a round ends well within the lease (docs/leases.md); what is left is done in the next, at once. Contests and
escrows are the settlement service's own work: the crank takes what that has left lying for a minute, so that the two
don't pay twice for one act."""
_LOOK_MS: Final = 30_000
"""Chosen: how often escrows and fees are looked at; epochs are looked at when one of their halves begins."""
_AGAIN_MS: Final = 100
_RETRY_MS: Final = 2_000


class MarketCrank:
    """Rounds for one market, when they are due."""

    def __init__(self, link: ChainLink, sender: Sender, keys: OperatorKeys, events: ChainEvents, clock: Clock) -> None:
        self._link = link
        self._sender = sender
        self._meter = HotKey(keys.meter, METER_CALLS, link.codec)
        self._meter_key = keys.meter.pubkey()
        self._events = events
        self._clock = clock
        self._due = 0

    async def work(self) -> int:
        """A round, if one is due; in how many milliseconds to look again."""
        now = self._clock.monotonic_ms()
        if now < self._due:
            return self._due - now
        chain = SolanaCrank(
            self._link.reader, self._link.calls, self._link.assembler, self._sender, self._meter_key,
            self._meter.sign, self._link.facts.market,
        )  # fmt: skip
        try:
            report = await crank_once(chain, _ROUND)
        except ChainError as error:
            _log.warning("crank.chain", action="tried again", cause=str(error))
            return self._wait(_RETRY_MS)
        await self._tell(report)
        if report.left:
            return self._wait(_AGAIN_MS)
        # The chain's clock was read rounded down to a second: so much later the boundary has passed for it, too.
        return self._wait(min(_LOOK_MS, max(0, report.wake_at - report.now) + _AGAIN_MS))

    async def _tell(self, report: CrankReport) -> None:
        for done in report.done:
            _log.info("crank.done", duty=done.duty.value, subject=done.subject, signature=done.signature)
        for refused in report.refused:
            _log.info("crank.refused", duty=refused.duty.value, subject=refused.subject, cause=refused.because)
        for signature in dict.fromkeys(done.signature for done in report.done):
            await self._events.absorb(signature)

    def _wait(self, milliseconds: int) -> int:
        self._due = self._clock.monotonic_ms() + milliseconds
        return milliseconds
