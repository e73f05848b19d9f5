"""Time, ids and chance come from outside, so that tests decide them."""

import secrets
import time
from typing import Protocol

from marketplace.domain.ids import new_id
from marketplace.domain.quantities import Millis


class Clock(Protocol):
    """Wall time for what is stored and shown, monotonic time for durations."""

    def now(self) -> Millis:
        """Milliseconds since the Unix epoch, UTC."""
        ...

    def monotonic_ms(self) -> Millis:
        """Milliseconds on a clock that never goes back; only differences mean something."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> Millis:
        return Millis(time.time_ns() // 1_000_000)

    def monotonic_ms(self) -> Millis:
        return Millis(time.monotonic_ns() // 1_000_000)


class ManualClock:
    """A clock that moves only when told to. Both readings move together."""

    def __init__(self, now: int = 1_770_976_800_000) -> None:
        self._now = now

    def now(self) -> Millis:
        return Millis(self._now)

    def monotonic_ms(self) -> Millis:
        return Millis(self._now)

    def advance(self, milliseconds: int) -> None:
        """Let time pass."""
        if milliseconds < 0:
            raise ValueError("time doesn't go back")
        self._now += milliseconds


class RandomSource(Protocol):
    """Unpredictable bytes."""

    def token_bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        ...


class SystemRandom:
    """The operating system's random source."""

    def token_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)


class Ids:
    """Public ids made from the given clock and random source."""

    def __init__(self, clock: Clock, random: RandomSource) -> None:
        self._clock = clock
        self._random = random

    def new(self, prefix: str) -> str:
        """A new id with this prefix; ids sort by creation."""
        return new_id(prefix, self._clock.now(), int.from_bytes(self._random.token_bytes(10), "big"))
