"""What running jobs use: processor, memory and network, as their nodes measured it. No money follows from it."""

from typing import Final

from marketplace.domain.allocations import AttemptPhase
from marketplace.domain.ids import AllocationId, NodeId
from marketplace.protocol.control import AllocationBeat
from marketplace.services.clock import Clock
from marketplace.services.live import Live
from marketplace.store.engine import Store
from marketplace.store.usage import UsageSample, UsageSamples

RETENTION_MS: Final = 7 * 86_400_000
"""Specified: api.md section 5.3."""
CLOSEST_MS: Final = 5_000
SPREAD: Final = 500
"""Chosen: samples lie at least 5 s and a 500th of the attempt's age apart, so that a day's job has some 3,000 of them
and a month's 4,700, dense at its beginning."""


class JobUsage:
    """Takes samples from heartbeats, and shows them."""

    def __init__(self, store: Store, live: Live, clock: Clock) -> None:
        self._store = store
        self._live = live
        self._clock = clock
        self._last: dict[AllocationId, tuple[int, int]] = {}

    async def note(self, node_id: NodeId, beats: tuple[AllocationBeat, ...]) -> None:
        """Keep what the heartbeat of a node says of its own running attempts, where enough time has passed."""
        samples = {}
        for beat in beats:
            sample = self._sample(node_id, beat)
            if sample is not None:
                samples[sample.allocation_id] = sample
                self._last[sample.allocation_id] = (sample.attempt, sample.at_ms)
        if samples:
            await self._store.write(lambda tx: UsageSamples(tx).add(list(samples.values())))

    async def list_for(self, allocation_id: AllocationId, from_ms: int, to_ms: int) -> list[UsageSample]:
        """Samples of one allocation, over all its attempts, in order of time."""
        return await self._store.read(lambda tx: UsageSamples(tx).list_for(allocation_id, from_ms, to_ms))

    async def forget_old(self) -> int:
        """Delete what is past its retention; how many."""
        self._last = {key: last for key, last in self._last.items() if self._live.find(key) is not None}
        before = self._clock.now() - RETENTION_MS
        return await self._store.write(lambda tx: UsageSamples(tx).forget(before))

    def _sample(self, node_id: NodeId, beat: AllocationBeat) -> UsageSample | None:
        attempt = self._live.attempt(AllocationId(beat.allocation_id))
        if (
            beat.used is None
            or attempt is None
            or (attempt.node_id, attempt.number, attempt.lease_token) != (node_id, beat.attempt, beat.lease_token)
            or attempt.phase is not AttemptPhase.READY
        ):
            return None
        now = self._clock.now()
        number, last_ms = self._last.get(attempt.allocation_id, (0, 0))
        apart = max(CLOSEST_MS, (now - (attempt.meter_at_ms or now)) // SPREAD)
        if number == attempt.number and now - last_ms < apart:
            return None
        used = beat.used
        return UsageSample(
            attempt.allocation_id, attempt.number, now, used.cpu_ms, used.memory_bytes, used.received_bytes,
            used.sent_bytes, used.gpu_percent, used.gpu_memory_bytes,
        )  # fmt: skip
