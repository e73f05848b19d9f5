"""More time for an allocation: asked for by its renter, or added by the market inside what it may.

An extension is an intent first (its amounts, its key), then an act on chain that is performed once under the
intent's own name, then an event that the books, the attempt and its node learn it from. An escrow that the wallet
opened is extended by the wallet's signature alone, one of the market's by the market alone, inside the allowance.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from marketplace.domain.allocations import Allocation, AttemptPhase, Opener
from marketplace.domain.ids import AllocationId
from marketplace.domain.instants import instant_text
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.money import AmountOverflow, deposit_for, format_amount
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.timing import MAX_TOTAL_MS, extension_step_ms
from marketplace.errors import (
    AlreadyTerminal,
    ChainUnavailable,
    Conflict,
    DetailCode,
    ExposureExceeded,
    IdempotencyKeyReused,
    InsufficientFunds,
    Invalid,
    SignatureRequired,
    SpendLimitReached,
    TransactionRejected,
)
from marketplace.services.api_keys import KeyBudget
from marketplace.services.chain_port import (
    ActPending,
    ActRefused,
    AllowanceView,
    ChainPort,
    EscrowView,
    Extend,
    VaultView,
)
from marketplace.services.clock import Clock
from marketplace.services.funding import REFUSALS, BlockedBy
from marketplace.services.idempotency import KeyInUse
from marketplace.services.live import Live
from marketplace.services.principals import AccountPrincipal
from marketplace.services.settlement import Absorber
from marketplace.services.transactions import TransactionService
from marketplace.store.allocations import Allocations
from marketplace.store.api_keys import KeySpending
from marketplace.store.engine import Store, Transaction
from marketplace.store.extensions import Extension, Extensions, ExtensionState

_log = structlog.get_logger(__name__)

CONFIRM_MS: Final = 20_000
"""As for a submit (api.md section 1.3)."""
_RESTORED: Final = "retry "
"""Before an attempt's number: the key of what is given back after it. No Idempotency-Key has a space."""
ASSIGNING_MS: Final = 15_000
"""Chosen: an assignment is confirmed within a second or two, or is as good as gone."""
_TRIES: Final = 3
ENDED_MS: Final = 3_000
"""Chosen: how long the word of an end is waited for whose escrow is closed already; its event comes within a second."""
_EXTENDED: Final = ("queued", "assigned", "running")
_ENDING: Final = frozenset({AllocationState.RELEASING, AllocationState.RELEASED, AllocationState.FAILED})


class _EscrowGone(ChainUnavailable):
    """The chain has no such escrow any more."""


@dataclass(frozen=True, slots=True)
class _Purse:
    """What pays for an extension of one escrow."""

    escrow: EscrowView
    vault: VaultView
    allowance: AllowanceView | None
    wallet_balance: Tokens

    def obstacle(self, added: Tokens, now: Millis) -> BlockedBy | None:
        """Why the market may not add so much itself, None when it may. Mirrors the program's extend_escrow."""
        allowance = self.allowance
        if allowance is None:
            return BlockedBy.NO_ALLOWANCE
        checks = (
            (allowance.total > 0, BlockedBy.REVOKED),
            (now < allowance.expires_at, BlockedBy.EXPIRED),
            (self.escrow.deposit + added <= allowance.per_escrow, BlockedBy.PER_JOB),
            (allowance.used_today + added <= allowance.per_day, BlockedBy.PER_DAY),
            (allowance.used_total + added <= allowance.total, BlockedBy.TOTAL),
            (added <= self.vault.free, BlockedBy.VAULT_SHORT),
        )
        return next((found for holds, found in checks if not holds), None)


class ExtensionService:
    """Extends allocations."""

    def __init__(
        self,
        store: Store,
        chain: ChainPort,
        live: Live,
        absorber: Absorber,
        transactions: TransactionService,
        clock: Clock,
        currency: str,
    ) -> None:
        self._store = store
        self._chain = chain
        self._live = live
        self._absorber = absorber
        self._transactions = transactions
        self._clock = clock
        self._currency = currency
        # One extension of an allocation at a time: the amounts of the next follow from what the last one left.
        self._locks: dict[AllocationId, asyncio.Lock] = {}

    async def extend(
        self, caller: AccountPrincipal, key: KeyInUse, allocation: Allocation, added_ms: Millis
    ) -> Allocation:
        """The allocation with so much more time; the same key again adds nothing more.

        Raises AlreadyTerminal, Conflict while it ends, Invalid beyond the longest time, SignatureRequired,
        InsufficientFunds, ExposureExceeded, ChainUnavailable.
        """
        self._live.require_open()
        await self._settled_on_a_node(allocation.id)
        async with self._lock(allocation.id):
            try:
                return await self._extend(caller, key, allocation, added_ms)
            except _EscrowGone as error:
                raise await self._over(allocation) from error
            except (ActRefused, TransactionRejected) as error:
                # It may have been there a moment ago: then what is wrong is that it ended.
                escrow = await self._chain.find_escrow(allocation.escrow)
                if escrow is None or escrow.state == "closing":
                    raise await self._over(allocation) from error
                if isinstance(error, TransactionRejected):
                    raise
                raise self._refused(allocation, error) from error

    async def _extend(
        self, caller: AccountPrincipal, key: KeyInUse, allocation: Allocation, added_ms: Millis
    ) -> Allocation:
        """As `extend`, while the job is there. Raises _EscrowGone and the chain's refusals too."""
        known = await self._find(allocation.id, key)
        if known is not None and known.state is ExtensionState.LANDED:
            return self._live.find(allocation.id) or allocation
        present = self._present(allocation)
        purse = await self._purse(present)
        if known is None:
            known = self._intent(present, purse.escrow, added_ms, await self._next_number(present.id), key=key)
        elif purse.escrow.max_time >= known.from_ms + known.added_ms:
            # Landed, and its event is about to be read: another transaction would add it twice.
            return await self._seen(known)
        if present.opener is Opener.WALLET:
            raise await self._wallet_signs(caller, key, present, known, purse)
        return await self._market_signs(caller, present, known, purse, key)

    async def extend_by_itself(self, allocation: Allocation) -> bool:
        """Add the next step inside what its renter allowed; whether it was added. Raises ChainUnavailable."""
        async with self._lock(allocation.id):
            present = self._live.find(allocation.id)
            if present is None or present.state in _ENDING or present.cancelling:
                return False
            purse = await self._purse(present)
            intents = await self._all(present.id)
            known = next((e for e in intents if e.automatic and e.state is ExtensionState.PENDING), None)
            if known is None:
                base = Millis(present.max_ms - sum(e.added_ms for e in intents if _landed(e)))
                allowed = present.auto_extend_ms - present.auto_extended_ms
                step = extension_step_ms(base, min(allowed, MAX_TOTAL_MS - purse.escrow.max_time))
                if step <= 0 or present.opener is Opener.WALLET:
                    return False
                known = self._intent(present, purse.escrow, step, len(intents) + 1, key=None)
            elif purse.escrow.max_time >= known.from_ms + known.added_ms:
                return False
            blocked = purse.obstacle(known.added_deposit, self._chain.now())
            if blocked is not None:
                _log.info("not extended", action="extensions.auto", allocation=present.id, blocked_by=blocked.value)
                return False
            try:
                await self._perform(present, known, None, lambda tx: self._hold_for_key(tx, known))
            except (ActRefused, ActPending, SpendLimitReached) as error:
                _log.warning("not extended", action="extensions.auto", allocation=present.id, error=str(error))
                return False
            return True

    async def restore(self, allocation: Allocation) -> bool:
        """Before a later attempt: give back the time that earlier ones used, where `retry.extend` asked for it.

        Whether there is more now. What the allowance doesn't permit is left, and looked at again with the next node.
        Raises ChainUnavailable.
        """
        async with self._lock(allocation.id):
            present = self._live.find(allocation.id)
            if present is None or present.state in _ENDING or present.cancelling or present.opener is Opener.WALLET:
                return False
            purse, intents = await self._purse(present), await self._all(present.id)
            key = f"{_RESTORED}{present.attempt}"
            known = next((e for e in intents if e.key == key), None)
            if known is None:
                given_back = sum(e.added_ms for e in intents if _landed(e) and (e.key or "").startswith(_RESTORED))
                full = Millis(purse.escrow.max_time - given_back)
                step = Millis(min(full - purse.escrow.time_left, MAX_TOTAL_MS - purse.escrow.max_time))
                if step <= 0:
                    return False
                intent = self._intent(present, purse.escrow, step, len(intents) + 1, key=None)
                known = replace(intent, key=key, automatic=False)
            elif _landed(known) or purse.escrow.max_time >= known.from_ms + known.added_ms:
                return False
            blocked = purse.obstacle(known.added_deposit, self._chain.now())
            if blocked is not None and not await self._chain.under_way(_operation(present, known)):
                _log.info("time not restored", action="extensions.restore", allocation=present.id, blocked_by=blocked)
                return False
            try:
                await self._perform(present, known, None, lambda tx: self._hold_for_key(tx, known))
            except (ActRefused, ActPending, SpendLimitReached) as error:
                _log.warning("time not restored", action="extensions.restore", allocation=present.id, error=str(error))
                return False
            return True

    async def _settled_on_a_node(self, allocation_id: AllocationId) -> None:
        """Until no assignment is under way: an extension names the node of the running attempt, or none."""

        def settled(_allocation: Allocation) -> bool:
            attempt = self._live.attempt(allocation_id)
            return attempt is None or attempt.phase is not AttemptPhase.CLAIMED

        if self._live.find(allocation_id) is not None:
            await self._live.wait_for(allocation_id, settled, ASSIGNING_MS)

    def _lock(self, allocation_id: AllocationId) -> asyncio.Lock:
        if self._live.find(allocation_id) is None:
            # Over: nothing is kept for what can't change any more.
            return self._locks.pop(allocation_id, asyncio.Lock())
        return self._locks.setdefault(allocation_id, asyncio.Lock())

    def _present(self, allocation: Allocation) -> Allocation:
        present = self._live.find(allocation.id)
        if present is None:
            raise AlreadyTerminal(extra={"state": allocation.status.value})
        if present.cancelling or present.state in _ENDING:
            raise Conflict(
                "it is ending; nothing was added, and nothing more of the wallet's was locked",
                extra={"state": present.status.value, "allowed_from": list(_EXTENDED)},
            )
        return present

    async def _all(self, allocation_id: AllocationId) -> list[Extension]:
        return await self._store.read(lambda tx: Extensions(tx).list_for(allocation_id))

    async def _find(self, allocation_id: AllocationId, key: KeyInUse) -> Extension | None:
        known = next((e for e in await self._all(allocation_id) if e.key == key.key), None)
        if known is not None and known.body_hash != key.body_sha256:
            raise IdempotencyKeyReused
        return known

    async def _purse(self, allocation: Allocation) -> _Purse:
        escrow, funds = await asyncio.gather(
            self._chain.find_escrow(allocation.escrow), self._chain.find_funds(allocation.wallet)
        )
        if escrow is None:
            raise _EscrowGone
        if funds.vault is None:
            raise ChainUnavailable
        return _Purse(escrow, funds.vault, funds.allowance, funds.wallet_balance)

    async def _next_number(self, allocation_id: AllocationId) -> int:
        return len(await self._all(allocation_id)) + 1

    def _intent(
        self, allocation: Allocation, escrow: EscrowView, added_ms: Millis, number: int, key: KeyInUse | None
    ) -> Extension:
        """What is to be added: the deposit that the whole time costs at the ceiling, less what is locked."""
        total = Millis(escrow.max_time + added_ms)
        if total > MAX_TOTAL_MS:
            most = max(0, (MAX_TOTAL_MS - escrow.max_time) // 1000)
            raise Invalid.field(
                "additional_seconds", DetailCode.OUT_OF_RANGE, f"at most {most} more: a job lasts 30 days at most"
            )
        try:
            deposit = deposit_for(allocation.ceiling_per_hour, total)
        except AmountOverflow as error:
            raise Invalid.field(
                "additional_seconds", DetailCode.OUT_OF_RANGE, "times the price is more than the chain can hold"
            ) from error
        return Extension(
            allocation_id=allocation.id,
            number=number,
            key=None if key is None else key.key,
            body_hash=b"" if key is None else key.body_sha256,
            automatic=key is None,
            from_ms=escrow.max_time,
            added_ms=added_ms,
            added_deposit=Tokens(max(0, deposit - escrow.deposit)),
            created_at_ms=self._clock.now(),
        )

    def _act(self, allocation: Allocation, extension: Extension) -> Extend:
        attempt = self._live.attempt(allocation.id)
        runs = attempt is not None and attempt.phase not in (AttemptPhase.CLAIMED, AttemptPhase.ENDED)
        return Extend(
            escrow=allocation.escrow,
            wallet=allocation.wallet,
            opener=allocation.opener,
            node_key=attempt.node_key if attempt is not None and runs else None,
            added_deposit=extension.added_deposit,
            added_time=extension.added_ms,
        )

    async def _market_signs(
        self, caller: AccountPrincipal, allocation: Allocation, extension: Extension, purse: _Purse, key: KeyInUse
    ) -> Allocation:
        budget = KeyBudget(caller, self._clock, self._chain.terms.decimals, self._currency)
        blocked = purse.obstacle(extension.added_deposit, self._chain.now())
        if blocked is not None and not await self._chain.under_way(_operation(allocation, extension)):
            raise self._blocked(allocation, extension, purse, blocked)
        try:
            await self._perform(
                allocation, extension, key, lambda tx: budget.hold(tx, allocation.id, extension.added_deposit)
            )
        except ActPending as error:
            raise ChainUnavailable from error
        except ActRefused as refused:
            blocked = REFUSALS.get(refused.name or "")
            if blocked is None:
                raise
            raise self._blocked(allocation, extension, purse, blocked) from refused
        return await self._seen(extension)

    def _hold_for_key(self, tx: Transaction, extension: Extension) -> None:
        """What the market adds by itself counts for the API key that submitted the job. Raises SpendLimitReached."""
        if KeySpending(tx).hold_more(extension.allocation_id, extension.added_deposit, self._clock.now()) is not None:
            raise SpendLimitReached

    async def _perform(
        self, allocation: Allocation, extension: Extension, key: KeyInUse | None, hold: Callable[[Transaction], None]
    ) -> None:
        """Write the intent, then have it land. hold: takes its deposit of an API key's limit.

        Raises ActRefused, ActPending, ChainUnavailable, SpendLimitReached.
        """
        await self._write(extension, key, hold)
        for left in reversed(range(_TRIES)):
            await self._settled_on_a_node(allocation.id)
            try:
                act = self._act(allocation, extension)
                landed = await self._chain.perform(_operation(allocation, extension), (act,))
            except ActRefused as refused:
                # An attempt began in between: the next try names its node.
                if refused.name != "WrongNode" or not left:
                    raise
            else:
                await self._absorber.absorb(landed.signature)
                return

    async def _write(
        self, extension: Extension, key: KeyInUse | None, hold: Callable[[Transaction], None] | None = None
    ) -> None:
        def write(tx: Transaction) -> None:
            if key is not None:
                key.bind(tx)
            if all(e.number != extension.number for e in Extensions(tx).list_for(extension.allocation_id)):
                Extensions(tx).create(extension)
                if hold is not None:
                    hold(tx)

        await self._store.write(write)

    async def _seen(self, extension: Extension) -> Allocation:
        """Wait until the books have it."""
        most = extension.from_ms + extension.added_ms
        if self._live.find(extension.allocation_id) is not None:
            await self._live.wait_for(extension.allocation_id, lambda a: a.terminal or a.max_ms >= most, CONFIRM_MS)
        # What ended meanwhile is no longer live, and had its time all the same.
        seen = await self._store.lookup(lambda tx: Allocations(tx).find(extension.allocation_id))
        if seen is None or seen.max_ms < most:
            raise ChainUnavailable("the extension has landed and its event is not read yet; repeat to see it")
        return seen

    async def _over(self, allocation: Allocation) -> Conflict:
        """Its escrow is closed: it ended before more time came to it. With the word of its end, once that is read."""
        if self._live.find(allocation.id) is not None:
            await self._live.wait_for(allocation.id, lambda a: a.terminal, ENDED_MS)
        known = await self._store.lookup(lambda tx: Allocations(tx).find(allocation.id)) or allocation
        kind = AlreadyTerminal if known.terminal else Conflict
        return kind(
            "it has ended: its escrow is closed and settled. Nothing was added to it, and nothing more of the wallet's"
            " was locked",
            extra={"state": known.status.value, "allowed_from": list(_EXTENDED)},
        )

    async def _wallet_signs(
        self, caller: AccountPrincipal, key: KeyInUse, allocation: Allocation, extension: Extension, purse: _Purse
    ) -> SignatureRequired:
        """402 with the transaction: the same bytes as long as they can land."""
        gap = Tokens(max(0, extension.added_deposit - purse.vault.free))
        if gap and purse.wallet_balance < gap:
            raise self._insufficient(extension, purse, purse.wallet_balance)
        await self._write(extension, key)
        steps = await self._chain.extend_steps(self._act(allocation, extension), deposit_gap=gap)
        summary = f"adds {self._text(extension.added_deposit)} and {extension.added_ms // 1000} s to the job's escrow"
        if gap:
            summary = f"deposits {self._text(gap)} and {summary}"
        prepared = await self._transactions.prepare(caller, key, "extend_escrow", steps, summary)
        return SignatureRequired(
            extra={
                "transaction": prepared.transaction,
                "escrow": allocation.escrow,
                "nonce": allocation.nonce,
                "expires_at": instant_text(prepared.expires_at),
                "idempotency_key": key.key,
                "deposit": self._amount(extension.added_deposit),
                "currency": self._currency,
                "blocked_by": BlockedBy.WALLET_OPENED.value,
                "summary": prepared.summary,
            }
        )

    def _blocked(
        self, allocation: Allocation, extension: Extension, purse: _Purse, blocked: BlockedBy
    ) -> SignatureRequired | InsufficientFunds:
        """402: only the market may extend what it opened, so the wallet widens its allowance or fills its vault."""
        if blocked is BlockedBy.VAULT_SHORT:
            return self._insufficient(extension, purse, None)
        return SignatureRequired(
            f"the allowance does not cover the extension ({blocked.value}); nothing was added: grant a wider one"
            " (POST /v1/allowance) and repeat with the same Idempotency-Key",
            extra={
                "transaction": None,
                "escrow": allocation.escrow,
                "deposit": self._amount(extension.added_deposit),
                "currency": self._currency,
                "blocked_by": blocked.value,
            },
        )

    def _insufficient(self, extension: Extension, purse: _Purse, balance: Tokens | None) -> InsufficientFunds:
        short = max(0, extension.added_deposit - purse.vault.free - (balance or 0))
        extra: dict[str, object] = {
            "required": self._amount(extension.added_deposit),
            "available": self._amount(purse.vault.free),
            "shortfall": self._amount(Tokens(short)),
            "currency": self._currency,
            "missing": "payment_token",
        }
        if balance is not None:
            extra["wallet_balance"] = self._amount(balance)
        return InsufficientFunds(
            "the vault's free balance is below the deposit of the added time; nothing was added: deposit and repeat",
            extra=extra,
        )

    def _refused(self, allocation: Allocation, refused: ActRefused) -> Conflict:
        """The program's own word, in ours. Nothing moved."""
        _log.warning(
            "extension refused", action="extensions.extend", allocation=allocation.id,
            error=refused.name or str(refused),
        )  # fmt: skip
        if refused.name == "ExposureExceeded":
            return ExposureExceeded("the node's stake does not cover so much more; nothing was added")
        return Conflict(f"the chain refused it ({refused.name or refused}); nothing was added")

    def _amount(self, units: Tokens) -> str:
        return format_amount(units, self._chain.terms.decimals)

    def _text(self, units: Tokens) -> str:
        return f"{self._amount(units)} {self._currency}"


def _landed(extension: Extension) -> bool:
    return extension.state is ExtensionState.LANDED


def _operation(allocation: Allocation, extension: Extension) -> str:
    return f"extend:{allocation.escrow}:{extension.number}"
