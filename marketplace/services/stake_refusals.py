"""What the program refuses about stake, in the market's own errors.

A request is checked before anything is built, by what the chain shows; between that look and the simulation the chain
may move on. Then the program's own refusal is told in the same words.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from marketplace.errors import (
    CommissionStep,
    Conflict,
    DetailCode,
    InsufficientStake,
    Invalid,
    MarketError,
    NotFound,
    NothingToClaim,
    PoolDead,
    StaleEpoch,
    TooEarly,
    TransactionRejected,
)


def paused() -> Conflict:
    """New stake is stopped for the whole deployment."""
    return Conflict(
        "the deployment takes no new stake for now; what is staked can be claimed and unbonded. Nothing was changed",
        extra={"state": "paused"},
    )


def retired() -> Conflict:
    """The node takes no more."""
    return Conflict(
        "the node is retired: nothing can be staked on it or changed of it, what is staked can be unbonded",
        extra={"state": "retired", "allowed_from": ["active", "draining", "suspended"]},
    )


def operators_own() -> Conflict:
    """The bond has commands of its own."""
    return Conflict(
        "this is your own node: what you stake on it is its bond; add to it or take from it with `reaver-node bond` "
        "and `reaver-node unbond`. Nothing was changed",
        extra={"state": "operator"},
    )


def too_little_for_a_share() -> Invalid:
    return Invalid.field("amount", DetailCode.OUT_OF_RANGE, "is too little for one share of this pool")


def locked(possible_at: str | None = None) -> TooEarly:
    return TooEarly(
        "the unbonding time has not passed; the stake stays where it is and can be withdrawn after `possible_at`",
        extra={} if possible_at is None else {"possible_at": possible_at},
    )


_STALE: Final = "that epoch is over: its time to register, to be closed or to be drawn has passed. Nothing was changed"
_LATER: Final = "that can't be done with this epoch yet; nothing was changed"
_NAMED: Final[Mapping[str, type[MarketError]]] = MappingProxyType(
    {
        "PoolDead": PoolDead,
        "NothingOwed": NothingToClaim,
        "SharesInsufficient": InsufficientStake,
        "CommissionStepTooLarge": CommissionStep,
    }
)
_EPOCHS: Final[Mapping[str, type[MarketError]]] = MappingProxyType(
    {
        "WrongEpoch": StaleEpoch,
        "EpochWindowClosed": StaleEpoch,
        "EpochOver": StaleEpoch,
        "EpochTooEarly": TooEarly,
        "EpochNotClosed": TooEarly,
        "EpochNotOver": TooEarly,
    }
)


def refusal(rejected: TransactionRejected) -> MarketError:
    """The market's error for a simulation that failed; the given one where it says nothing of stake."""
    program = rejected.extra.get("program_error")
    name = program.get("name") if isinstance(program, Mapping) else None
    if not isinstance(name, str):
        return rejected
    extra = {"program_error": program}
    if name in _NAMED:
        return _NAMED[name](extra=extra)
    if name in _EPOCHS:
        kind = _EPOCHS[name]
        return kind(_STALE if kind is StaleEpoch else _LATER, extra=extra)
    made: Mapping[str, MarketError] = {
        "NodeRetired": retired(),
        "OperatorPosition": operators_own(),
        "AmountZero": too_little_for_a_share(),
        "TicketLocked": locked(),
        "Paused": paused(),
        "NotRegistered": Conflict("the node registered no weight for this epoch; nothing was changed", extra=extra),
        "AlreadyDistributed": Conflict("the pool has drawn its part of this epoch; nothing was changed", extra=extra),
        "WrongTicket": NotFound("there is no such ticket any more; it was withdrawn"),
    }
    return made.get(name, rejected)
