"""What can go wrong between us and the chain; each stands in the tree of `marketplace.errors`.

ChainUnavailable
└─ RpcUnavailable        no endpoint gave a usable answer; nothing is known, ask again
ChainError
└─ RpcError              an endpoint answered with a JSON-RPC error: its number, message, failed preflight
TransactionRejected
└─ TransactionFailed     it landed (or was simulated) and failed; keeps `failure`
NotFound
└─ AccountMissing        an account that must exist doesn't
InternalError
└─ AccountMismatch       an account isn't what it must be: owner, discriminator, length, version, link
Invalid
└─ NotCanonical          text is not the canonical base58 of its bytes
`TransactionExpired` and `UnsupportedTransaction` are raised as they stand there.
"""

from dataclasses import replace

from marketplace.chain.answers import TransactionFailure
from marketplace.errors import (
    ChainError,
    ChainUnavailable,
    InternalError,
    Invalid,
    NotFound,
    Problem,
    TransactionExpired,
    TransactionRejected,
    UnsupportedTransaction,
)

__all__ = [
    "AccountMismatch",
    "AccountMissing",
    "ChainError",
    "NotCanonical",
    "RpcError",
    "RpcUnavailable",
    "TransactionExpired",
    "TransactionFailed",
    "UnsupportedTransaction",
]


class RpcUnavailable(ChainUnavailable):
    """No endpoint of the chain gave a usable answer. What was sent may still have landed."""

    def problem(self) -> Problem:
        """In words for a caller of the market: which endpoints it asks, and what they say, is its operator's matter."""
        return _for_callers(super().problem())


class RpcError(ChainError):
    """An endpoint answered with an error object.

    number: JSON-RPC's or Solana's (-32002: preflight failed, -32601: no such method).
    failure: the transaction error of a failed preflight; logs: its log lines.
    """

    def __init__(
        self,
        method: str,
        number: int,
        message: str,
        failure: TransactionFailure | None = None,
        logs: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{method}: {message} ({number})")
        self.method = method
        self.number = number
        self.failure = failure
        self.logs = logs

    def problem(self) -> Problem:
        """In words for a caller of the market, as for `RpcUnavailable`."""
        return _for_callers(super().problem())


def _for_callers(problem: Problem) -> Problem:
    return replace(problem, message=ChainUnavailable().message)


class TransactionFailed(TransactionRejected):
    """A transaction failed on chain or in its simulation: no money moved, a landed one cost its fee.

    error_name: the program's own name of the error where it is ours (`DepositTooSmall`), else None.
    """

    def __init__(self, failure: TransactionFailure, logs: tuple[str, ...] = (), error_name: str | None = None) -> None:
        named = f" ({error_name})" if error_name else ""
        super().__init__(f"the transaction failed, {failure}{named}: no money moved but its fee")
        self.failure = failure
        self.logs = logs
        self.error_name = error_name


class AccountMissing(NotFound):
    """An account that must exist was not found on chain."""


class AccountMismatch(InternalError):
    """An account on chain is not what it must be: owner, discriminator, length, version or link."""


class NotCanonical(Invalid, ValueError):
    """Not the canonical base58 text of a key or a signature."""
