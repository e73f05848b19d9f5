"""Which nonce an escrow gets: unused on chain, promised to no other intent. Source: program.md section 2."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

WINDOW: Final = 1024
AHEAD: Final = 256


@dataclass(frozen=True, slots=True)
class NonceWindow:
    """Used nonces as the chain holds them: the highest, and a bit for each of the 1,024 numbers that end with it.

    used: bit n mod 8 of byte (n mod 1,024) div 8 is nonce n.
    """

    highest: int = 0
    used: bytes = bytes(WINDOW // 8)

    @property
    def oldest(self) -> int:
        """The lowest nonce that `choose` may give: the chain takes no older one."""
        return max(1, self.highest - WINDOW + 1)

    def is_used(self, nonce: int) -> bool:
        """Whether the chain would refuse it as used or too old."""
        if nonce > self.highest:
            return False
        place = nonce % WINDOW
        return self.highest - nonce >= WINDOW or bool(self.used[place // 8] & (1 << place % 8))

    def choose(self, taken: Collection[int]) -> int | None:
        """The next nonce for a new intent; None while 1,280 intents wait.

        taken: nonces of other intents, which their keys keep for ever.
        """
        for nonce in range(self.highest + 1, self.highest + AHEAD + 1):
            if nonce not in taken:
                return nonce
        for nonce in range(self.highest, max(0, self.highest - WINDOW), -1):
            if nonce not in taken and not self.is_used(nonce):
                return nonce
        return None
