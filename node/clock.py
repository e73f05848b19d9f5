"""Chain time on the node: the machine's monotonic clock, set once per attempt by the chain's.

Money is never measured by the wall clock, which an operator or a time daemon may move. CLOCK_MONOTONIC goes on
across a restart of the daemon, so that a journalled anchor stays good until the machine itself reboots.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Where the daemon reads time. Tests bring their own."""

    @property
    def boot_id(self) -> str:
        """Names the run of the machine in which `monotonic_ms` counts."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back, since an arbitrary point of this boot."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, by the machine's wall clock."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        # Without a boot id (not Linux) each process counts as its own boot: anchors fall back to the wall clock.
        try:
            self._boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            self._boot_id = f"process-{time.time_ns()}"

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class ChainClock:
    """What the market last said the chain's time is; it holds vouchers against that.

    Slots that come late make the chain's clock fall behind, and catch up in leaps: an attempt's own time, carried on
    by the machine's clock, may run ahead of it for minutes. Whoever signs a time that the chain hasn't reached is
    refused until it has.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: tuple[int, int] | None = None

    def set(self, chain_ms: int) -> None:
        """Now is `chain_ms` on the chain, as the market has it."""
        self._said = (chain_ms, self._clock.monotonic_ms())

    def known_ms(self) -> int | None:
        """The time that was said last, which the chain has certainly reached; None before any."""
        return None if self._said is None else self._said[0]

    def now_ms(self) -> int | None:
        """Chain time now, if it has run as fast as the machine's clock since it was said; None before that."""
        if self._said is None:
            return None
        chain_ms, at = self._said
        return chain_ms + self._clock.monotonic_ms() - at


@dataclass(frozen=True, slots=True)
class Anchor:
    """One moment on three clocks; journalled with the attempt it times."""

    boot_id: str
    monotonic_ms: int
    wall_ms: int
    chain_ms: int

    @classmethod
    def set(cls, clock: Clock, chain_ms: int) -> "Anchor":
        """Now is `chain_ms` on the chain."""
        return cls(clock.boot_id, clock.monotonic_ms(), clock.wall_ms(), chain_ms)

    def now_ms(self, clock: Clock) -> int:
        """Chain time now. After a reboot of the machine the wall clock has to carry it."""
        if clock.boot_id == self.boot_id:
            return self.chain_ms + clock.monotonic_ms() - self.monotonic_ms
        return self.chain_ms + max(0, clock.wall_ms() - self.wall_ms)
