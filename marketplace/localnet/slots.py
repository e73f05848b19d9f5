"""Slots in real time, what each commitment sees of them, and the blockhashes they leave behind."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from solders.hash import Hash

# How many slots a blockhash stays good for: Agave's MAX_PROCESSING_AGE.
BLOCKHASH_SLOTS: Final = 150


class Commitment(StrEnum):
    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"


@dataclass(frozen=True, slots=True)
class Moment:
    """A slot and the second its Clock sysvar shows."""

    slot: int
    unix_time: int


class SlotClock:
    """Turns elapsed real time into slots.

    Slots come from the monotonic clock, so that a stepped wall clock neither stops nor races the chain;
    the second comes from the wall clock, since deadlines on chain are compared with it, and never falls.
    """

    def __init__(
        self,
        *,
        first_slot: int,
        slot_ms: int,
        not_before_s: int,
        wall_s: Callable[[], float],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._first_slot = first_slot
        self._slot_ms = slot_ms
        self._latest_s = not_before_s
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._started_s = monotonic_s()

    def now(self) -> Moment:
        elapsed_ms = int((self._monotonic_s() - self._started_s) * 1000)
        self._latest_s = max(self._latest_s, int(self._wall_s()))
        return Moment(self._first_slot + elapsed_ms // self._slot_ms, self._latest_s)

    def until_next_slot_s(self) -> float:
        """Seconds until the slot changes; always positive."""
        elapsed_ms = (self._monotonic_s() - self._started_s) * 1000
        return (self._slot_ms - elapsed_ms % self._slot_ms) / 1000


class Blockhashes:
    """The blockhash of every slot, each derived from the chain's salt: nothing to store, and the young ones of
    before a restart are still good after it. The salt is random per data folder, so no two chains share one.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._slots: dict[Hash, int] = {}
        self._newest = -1

    def of(self, slot: int) -> Hash:
        digest = hashlib.sha256(b"blockhash" + self._salt + slot.to_bytes(8, "little")).digest()
        return Hash.from_bytes(digest)

    def advance(self, slot: int) -> None:
        """Know the hashes of all slots that may still be asked about, up to `slot`."""
        oldest = max(0, slot - 2 * BLOCKHASH_SLOTS)
        for each in range(max(oldest, self._newest + 1), slot + 1):
            self._slots[self.of(each)] = each
        self._newest = slot
        for stale in [known for known, at in self._slots.items() if at < oldest]:
            del self._slots[stale]

    def is_valid_at(self, blockhash: Hash, slot: int) -> bool:
        """Whether a transaction with this blockhash is accepted by the bank of `slot`."""
        born = self._slots.get(blockhash)
        return born is not None and born <= slot <= born + BLOCKHASH_SLOTS
