"""What the chain said, told to the accounts it concerns, in the transaction that takes it into the books.

An event of a fork that is dropped later stays told: the feed says what was `confirmed`, as the job views do.
"""

from collections.abc import Callable, Mapping
from typing import Final

from marketplace.chain.accounts import NodeStatus
from marketplace.chain.events import (
    AllowanceGrantedEvent,
    AllowanceRevokedEvent,
    DelegatedEvent,
    DepositedEvent,
    EscrowClosedEvent,
    EscrowExtendedEvent,
    EscrowOpenedEvent,
    NodeRegisteredEvent,
    NodeUpdatedEvent,
    ReleasedEvent,
    RewardsClaimedEvent,
    SettledEvent,
    SlashedEvent,
    TicketWithdrawnEvent,
    UnbondedEvent,
    WithdrawnEvent,
)
from marketplace.chain.watcher import ObservedEvent
from marketplace.domain.events import EventType
from marketplace.domain.ids import AccountId
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Stake, Tokens
from marketplace.services.chain_port import MarketTerms
from marketplace.services.feed import Feed
from marketplace.store.allocations import Allocations
from marketplace.store.audiences import Audiences
from marketplace.store.books import Books
from marketplace.store.engine import Transaction
from marketplace.store.logins import Accounts
from marketplace.store.spend_alerts import SpendAlertRows

_REAP: Final = "reap"
_SUSPEND: Final = "suspend_node"
MAX_STAKERS: Final = 1_000
"""Chosen: how many stakers of one pool are told of a slash in the transaction that records it."""

Told = tuple[AccountId | None, EventType, str, dict[str, object]]
"""Whom, of what, about what, with what; nobody where the wallet has no account here."""


class ChainFeed:
    """Appends to the feed. terms: of this market, known once the chain was read."""

    def __init__(self, feed: Feed, terms: Callable[[], MarketTerms], currency: str) -> None:
        self._feed = feed
        self._terms = terms
        self._currency = currency

    def tell(self, tx: Transaction, observed: ObservedEvent) -> None:
        """Tell of an event whoever has an account here and is concerned."""
        for account, kind, resource, data in self._told(tx, observed):
            if account is not None:
                self._feed.append(tx, account, kind, resource, {**data, "transaction": str(observed.signature)})

    def _told(self, tx: Transaction, observed: ObservedEvent) -> list[Told]:  # noqa: PLR0911 - one for each kind of event
        event, instruction = observed.event, observed.instruction
        match event:
            case EscrowOpenedEvent() | EscrowExtendedEvent() | SettledEvent() | ReleasedEvent() | EscrowClosedEvent():
                return self._escrow(tx, event, instruction)
            case DepositedEvent():
                return [self._vault(tx, EventType.VAULT_DEPOSITED, event)]
            case WithdrawnEvent():
                return [self._vault(tx, EventType.VAULT_WITHDRAWN, event)]
            case AllowanceGrantedEvent() | AllowanceRevokedEvent():
                return self._allowance(tx, event, observed.slot)
            case NodeRegisteredEvent():
                data: dict[str, object] = {
                    "node": str(event.node), "pool": str(event.pool), "bond": self._stake(event.bond),
                }  # fmt: skip
                return [(_account(tx, event.operator), EventType.NODE_REGISTERED, str(event.node), data)]
            case NodeUpdatedEvent():
                return self._updated(tx, event, instruction)
            case SlashedEvent():
                return self._slashed(tx, event)
            case DelegatedEvent() | UnbondedEvent() | TicketWithdrawnEvent() | RewardsClaimedEvent():
                return self._staking(tx, event)
            case _:
                return []

    def _escrow(
        self,
        tx: Transaction,
        event: EscrowOpenedEvent | EscrowExtendedEvent | SettledEvent | ReleasedEvent | EscrowClosedEvent,
        instruction: str | None,
    ) -> list[Told]:
        escrow = str(event.escrow)
        known = Books(tx).find_escrow(escrow)
        allocation = Allocations(tx).find_by_escrow(escrow)
        data: dict[str, object] = {"escrow": escrow, "job_id": None if allocation is None else allocation.job_id}
        match event:
            case EscrowOpenedEvent():
                if event.opener != event.wallet and str(event.market) == self._terms().market:
                    SpendAlertRows(tx).note(str(event.wallet), event.deposit)
                kind = EventType.ESCROW_OPENED
                data |= {"deposit": self._amount(event.deposit)}
            case EscrowExtendedEvent():
                if known is not None and known.opener != known.wallet and allocation is not None:
                    SpendAlertRows(tx).note(known.wallet, event.added_deposit)
                kind = EventType.ESCROW_EXTENDED
                data |= {
                    "added": self._amount(event.added_deposit), "deposit": self._amount(event.deposit),
                    "added_seconds": event.added_time // 1000, "timeout_seconds": event.max_time // 1000,
                }  # fmt: skip
            case SettledEvent():
                kind = EventType.ESCROW_SETTLED
                data |= {
                    "attempt": event.attempt, "reason_number": event.reason, "billed_ms": event.billed,
                    "paid": self._amount(event.paid), "refunded": self._amount(event.refunded),
                }  # fmt: skip
            case ReleasedEvent():
                kind = EventType.ESCROW_REAPED if instruction == _REAP else EventType.ESCROW_RELEASED
                data |= {"attempt": event.attempt, "reason_number": event.reason, "loss": event.loss}
            case EscrowClosedEvent():
                kind = EventType.ESCROW_CLOSED
                data |= {
                    "reason_number": event.reason, "paid": self._amount(event.paid),
                    "refunded": self._amount(event.refunded), "contested": event.contested,
                }  # fmt: skip
        wallet = None if known is None else known.wallet
        account = None if wallet is None else Accounts(tx).find_by_wallet(wallet)
        kinds = [kind]
        if isinstance(event, EscrowClosedEvent) and instruction == _REAP and not event.contested:
            kinds = [EventType.ESCROW_REAPED, kind]  # nobody had it: no release goes before
        return [(account, each, escrow, {**data, "currency": self._currency}) for each in kinds]

    def _vault(self, tx: Transaction, kind: EventType, event: DepositedEvent | WithdrawnEvent) -> Told:
        data: dict[str, object] = {
            "wallet": str(event.wallet), "amount": self._amount(event.amount), "currency": self._currency,
        }  # fmt: skip
        return _account(tx, event.wallet), kind, str(event.vault), data

    def _allowance(
        self, tx: Transaction, event: AllowanceGrantedEvent | AllowanceRevokedEvent, slot: int
    ) -> list[Told]:
        if str(event.market) != self._terms().market:
            return []
        data: dict[str, object] = {"allowance": str(event.allowance), "wallet": str(event.wallet)}
        kind = EventType.ALLOWANCE_REVOKED
        if isinstance(event, AllowanceGrantedEvent):
            SpendAlertRows(tx).begin_anew(str(event.wallet), slot)
            kind = EventType.ALLOWANCE_GRANTED
            data |= {
                "per_job": self._amount(event.escrow_cap), "per_day": self._amount(event.day_cap),
                "total": self._amount(event.total_cap), "currency": self._currency,
            }  # fmt: skip
        return [(_account(tx, event.wallet), kind, str(event.allowance), data)]

    def _updated(self, tx: Transaction, event: NodeUpdatedEvent, instruction: str | None) -> list[Told]:
        """The operator of a node that is suspended, once: what he changes of it meanwhile is no other suspension."""
        if event.status != NodeStatus.SUSPENDED or instruction not in (_SUSPEND, None):
            return []
        node, data = str(event.node), {"node": str(event.node), "market": str(event.market)}
        return [(Audiences(tx).find_operator_of(node), EventType.NODE_SUSPENDED, node, dict(data))]

    def _slashed(self, tx: Transaction, event: SlashedEvent) -> list[Told]:
        pool = str(event.pool)
        data: Mapping[str, object] = {
            "node": str(event.node), "pool": pool, "amount": self._stake(event.amount), "reason_number": event.reason,
        }  # fmt: skip
        told: list[Told] = [(Audiences(tx).find_operator(pool), EventType.NODE_SLASHED, str(event.node), dict(data))]
        stakers = Audiences(tx).list_stakers(pool, MAX_STAKERS)
        return told + [(staker, EventType.STAKE_SLASHED, pool, dict(data)) for staker in stakers]

    def _staking(
        self, tx: Transaction, event: DelegatedEvent | UnbondedEvent | TicketWithdrawnEvent | RewardsClaimedEvent
    ) -> list[Told]:
        pool = str(event.pool)
        data: dict[str, object] = {"pool": pool, "wallet": str(event.owner)}
        if isinstance(event, RewardsClaimedEvent):
            kind = EventType.STAKE_CLAIMED
            fees, emission = self._amount(event.fees), self._stake(event.emission)
            data |= {"fees": fees, "currency": self._currency, "emission": emission}
        else:
            kind = {
                DelegatedEvent: EventType.STAKE_DELEGATED, UnbondedEvent: EventType.STAKE_UNBONDED,
                TicketWithdrawnEvent: EventType.STAKE_WITHDRAWN,
            }[type(event)]  # fmt: skip
            data |= {"amount": self._stake(event.amount)}
        return [(_account(tx, event.owner), kind, pool, data)]

    def _amount(self, units: int) -> str:
        return format_amount(Tokens(units), self._terms().decimals)

    def _stake(self, units: int) -> str:
        return format_amount(Stake(units), self._terms().stake_decimals)


def _account(tx: Transaction, wallet: object) -> AccountId | None:
    return Accounts(tx).find_by_wallet(str(wallet))
