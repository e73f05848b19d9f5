"""The node's own view of the chain: what lets it doubt the market, and be paid without it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from node.journal import Accepted, Attempt


class ChainSilent(Exception):
    """The chain can't be asked; nothing is known."""


class ChainRefused(Exception):
    """The chain answered no, or is not what it must be; the message says why. Asking again may help later."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Time limits of the program that a node has to know.

    claim_limit_ms: how long a signed claim binds. skew_ms: by how much clocks may differ.
    lost_after_ms: silence that counts.
    """

    claim_limit_ms: int
    skew_ms: int
    lost_after_ms: int


class Standing(StrEnum):
    """What an escrow says of one attempt."""

    ASSIGNED = "assigned"
    """It is assigned to this node, for this attempt."""
    WAITING = "waiting"
    """Open: this attempt is not assigned (yet)."""
    OVER = "over"
    """The attempt has ended, the escrow is closed, or another node has it."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """An escrow as one attempt sees it.

    price_per_hour, meter_key, assigned_at_ms (chain time): of the assignment; 0 and empty unless ASSIGNED.
    deposit: what it may be paid at most.
    """

    standing: Standing
    price_per_hour: int = 0
    meter_key: bytes = b""
    assigned_at_ms: int = 0
    deposit: int = 0


class Chain(Protocol):
    """What the daemon asks of the chain. Every method raises ChainSilent when it does not answer,
    and ChainRefused when it answers no.
    """

    async def look(self, attempt: Attempt) -> Assignment:
        """The attempt's escrow, as confirmed."""
        ...

    async def windows(self) -> Windows:
        """The program's time limits."""
        ...

    async def time_ms(self) -> int:
        """The chain's clock; it counts whole seconds."""
        ...

    async def settle(self, attempt: Attempt, accepted: Accepted) -> str:
        """Pay by an ended or final voucher of both sides; the node pays the fee. The transaction's signature."""
        ...

    async def quit(self, attempt: Attempt, accepted: Accepted | None) -> str:
        """End the attempt with the best voucher in hand, or none; the node pays the fee."""
        ...
