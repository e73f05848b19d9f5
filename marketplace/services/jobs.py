"""Jobs as renters see them: submit once, read, cancel. Source: api.md sections 1.3, 5.2, 5.3.

Submitting: the intent (key, nonce, escrow address, terms) is written before anything is sent, and the same key finds
it again for ever. What the wallet may have spent is read from the chain, never remembered: an escrow with the key's
terms that this store has never heard of is recognised by its event and goes on.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import structlog

from marketplace.crash import crash_point
from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase, Opener, allocation_of
from marketplace.domain.ids import AccountId, AllocationId, CredentialId, JobId, RegistryAuthId
from marketplace.domain.instants import instant_text
from marketplace.domain.lifecycle import TERMINAL_STATUSES, AllocationState
from marketplace.domain.money import format_amount
from marketplace.domain.placements import Placement
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.errors import (
    AlreadyTerminal,
    ChainUnavailable,
    Conflict,
    Detail,
    DetailCode,
    Gone,
    IdempotencyKeyReused,
    InsufficientFunds,
    Invalid,
    NotFound,
    QuotaExceeded,
    SignatureRequired,
    UniqueViolation,
)
from marketplace.protocol.terms import JobSpec, canonical_json, terms_hash
from marketplace.services.api_keys import KeyBudget
from marketplace.services.artifacts import JobArtifacts
from marketplace.services.bucket_credentials import CredentialService, Destination
from marketplace.services.chain_port import ChainPort, OpenEscrow
from marketplace.services.clock import Clock, Ids
from marketplace.services.funding import REFUSALS, BlockedBy, Funds
from marketplace.services.idempotency import KeyInUse
from marketplace.services.inputs import JobInputs
from marketplace.services.job_orders import Changes, Order, repeat_order
from marketplace.services.job_secrets import SecretService
from marketplace.services.live import Change, Live
from marketplace.services.obstacles import Because
from marketplace.services.outputs import shown_result
from marketplace.services.principals import AccountPrincipal
from marketplace.services.promised_nonces import PromisedNonces
from marketplace.services.quotes import QuoteService
from marketplace.services.scheduler import Scheduler
from marketplace.services.stored_secrets import Unreadable
from marketplace.services.transactions import Prepared, TransactionService
from marketplace.services.webhooks import WebhookService
from marketplace.store.allocations import AllocationFilter, Allocations, Attempts
from marketplace.store.books import Books, ChainEscrow, EscrowTransaction
from marketplace.store.buckets import BucketDeliveries, BucketDelivery
from marketplace.store.checkpoints import Checkpoint, Checkpoints
from marketplace.store.engine import Store, Transaction
from marketplace.store.placements import Placements
from marketplace.store.records import changed
from marketplace.store.transactions import BuiltTransactions

_log = structlog.get_logger(__name__)

CONFIRM_MS: Final = 20_000
"""How long a submit waits for its escrow to be confirmed (api.md section 1.3)."""
CANCEL_MS: Final = 5_000
"""Chosen: how long a cancel waits for a job that nobody runs to be closed and refunded."""
QUEUE_MS: Final = Millis(3_600_000)
"""How long a job waits for a node where it doesn't say. Specified: api.md section 5.2."""
MAX_UNASSIGNED: Final = 20
"""Unassigned escrows of a wallet whose rent the market has paid. Specified: api.md section 1.3."""
MAX_LIVE: Final = 10_000
"""Specified: api.md section 5.2."""


class Unsigned(Enum):
    """What is done where the market may not open an escrow by itself."""

    ASK_WALLET = "ask_wallet"
    REFUSE = "refuse"
    """Nothing is written: whoever asks is not there to sign."""

    def require(self, obstacle: BlockedBy) -> None:
        """Raise SignatureRequired, without a transaction, where the wallet isn't asked."""
        if self is Unsigned.REFUSE:
            raise SignatureRequired(
                f"the market may not open this escrow by itself ({obstacle.value}); nothing was spent",
                extra={"blocked_by": obstacle.value},
            )


class EscrowRefused(ChainUnavailable):
    """The chain did not open the escrow; nothing was spent, repeat with the same Idempotency-Key."""


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job with everything its view shows. escrow: None until its events are read.

    result: as JSON, or where to download it; None until it is completed. delivery: to a bucket, None without one.
    """

    allocation: Allocation
    attempts: Sequence[Attempt]
    escrow: ChainEscrow | None
    transactions: Sequence[EscrowTransaction]
    queue_position: int | None
    because: tuple[Because, ...]
    result: object = None
    delivery: BucketDelivery | None = None
    checkpoint: Checkpoint | None = None

    @property
    def latest(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def cost(self) -> Tokens:
        """What is paid or acknowledged so far, over all attempts."""
        return cost_of(self.attempts)


class JobService:
    """Submits, reads, cancels."""

    def __init__(
        self,
        store: Store,
        chain: ChainPort,
        live: Live,
        scheduler: Scheduler,
        quotes: QuoteService,
        transactions: TransactionService,
        secrets: SecretService,
        inputs: JobInputs,
        webhooks: WebhookService,
        credentials: CredentialService,
        artifacts: JobArtifacts,
        clock: Clock,
        ids: Ids,
        currency: str,
    ) -> None:
        self._store = store
        self._chain = chain
        self._live = live
        self._scheduler = scheduler
        self._quotes = quotes
        self._transactions = transactions
        self._secrets = secrets
        self._webhooks = webhooks
        self._credentials = credentials
        self._artifacts = artifacts
        self._clock = clock
        self._ids = ids
        self.currency = currency
        self._inputs = inputs
        self._nonces = PromisedNonces(store, live)
        # One wallet's nonces are chosen by one submit at a time.
        self._wallet_locks: dict[str, asyncio.Lock] = {}

    @property
    def decimals(self) -> int:
        """Of the payment token."""
        return self._chain.terms.decimals

    @property
    def stake_decimals(self) -> int:
        """Of the stake token."""
        return self._chain.terms.stake_decimals

    @property
    def escrow_rent(self) -> int:
        """Lamports that an escrow holds while it exists."""
        return self._chain.terms.escrow_rent

    # submitting

    async def submit(
        self, caller: AccountPrincipal, key: KeyInUse, order: Order, unsigned: Unsigned = Unsigned.ASK_WALLET
    ) -> Allocation:
        """The job of this key, funded. Raises SignatureRequired, InsufficientFunds, ChainUnavailable and more.

        The same key again goes on where the first call stood, and pays once.
        """
        self._live.require_open()
        terms = terms_hash(order.spec.spec_hash(), key.key)
        # A key that was made up for this request has never been seen, here or on chain.
        seen = key.given and await self._store.lookup(
            lambda tx: Books(tx).knows_key(caller.account_id, caller.wallet, key.key, terms)
        )
        if seen:
            known = await self._store.lookup(lambda tx: Allocations(tx).find_by_key(caller.account_id, key.key))
            if known is not None:
                return await self._repeat(caller, key, order, known, unsigned)
        if await self._count_live(caller) >= MAX_LIVE:
            raise QuotaExceeded(
                f"at most {MAX_LIVE} jobs may be live at once; wait for some to end",
                extra={"quota": "live_jobs", "limit": MAX_LIVE},
            )
        destination, auth_id = await self._look_up(caller, order)
        draft = await self._draft(caller, key, order, terms, auth_id)

        def seal(tx: Transaction) -> None:
            self._secrets.put(tx, draft.id, order.secrets)
            if order.webhook is not None:
                self._webhooks.create_for_job(tx, draft.account_id, draft.job_id, order.webhook)
            if destination is not None:
                self._credentials.plan(tx, draft.id, destination)

        adopted = await self._adopt(draft, seal) if seen else None
        if adopted is not None:
            return adopted

        def write(tx: Transaction) -> None:
            self._inputs.require(tx, draft.account_id, order.spec)
            seal(tx)

        return await self._fund_new(caller, key, draft, write, unsigned)

    async def _look_up(
        self, caller: AccountPrincipal, order: Order
    ) -> tuple[Destination | None, RegistryAuthId | None]:
        """What the order names elsewhere, before any row exists. Raises Invalid with all of it that isn't there."""
        found: list[Detail] = []
        destination: Destination | None = None
        auth_id: RegistryAuthId | None = None
        with _noted(found):
            if order.webhook is not None:
                self._webhooks.check_url(order.webhook, "webhook")
        with _noted(found):
            destination = await self.choose_destination(caller.account_id, order)
        with _noted(found):
            auth_id = await self._secrets.require_auth(caller.account_id, order.spec)
        with _noted(found):
            self._longest_wait(order)
        with _noted(found):
            await self._inputs.accept(caller.account_id, order)
            await self._artifacts.accept(caller.account_id, order)
        if found:
            raise Invalid.of(found)
        return destination, auth_id

    async def resume(
        self, caller: AccountPrincipal, key: KeyInUse, secrets: dict[str, str], unsigned: Unsigned = Unsigned.ASK_WALLET
    ) -> Allocation | None:
        """The job of a key that was used before for this very body; None where there is none. As `submit`.

        For a body that was taken then and would not be now: what it meant stands in the intent. secrets: the body's.
        """
        self._live.require_open()
        known = None
        if key.given:
            known = await self._store.lookup(lambda tx: Allocations(tx).find_by_key(caller.account_id, key.key))
        if known is None or known.body_hash != key.body_sha256 or known.retry_of is not None:
            return None
        if known.state is AllocationState.REQUESTED:
            await self._store.write(lambda tx: self._secrets.put(tx, known.id, secrets))
        return await self._go_on(caller, key, known, unsigned)

    async def _repeat(
        self, caller: AccountPrincipal, key: KeyInUse, order: Order, known: Allocation, unsigned: Unsigned
    ) -> Allocation:
        """The job of a key that was used before, for the same order: it goes on."""
        if known.body_hash != key.body_sha256 or known.retry_of != order.retry_of:
            raise IdempotencyKeyReused
        if known.state is AllocationState.REQUESTED:
            # Those of a request that nobody paid for long are forgotten; it may still be paid now.
            await self._store.write(lambda tx: self._secrets.put(tx, known.id, order.secrets))
        return await self._go_on(caller, key, known, unsigned)

    async def _count_live(self, caller: AccountPrincipal) -> int:
        """At least the account's live jobs; exactly so many where they come near what is allowed."""
        most = self._live.count_of_wallet(caller.wallet)
        if most < MAX_LIVE:
            return most
        return await self._store.lookup(lambda tx: Allocations(tx).count_unfinished(caller.account_id))

    async def choose_destination(self, account_id: AccountId, order: Order) -> Destination | None:
        """The bucket that outputs go to, and by which login; None for none. Raises Invalid."""
        named = order.output.credential_id
        return await self._credentials.choose(
            account_id, order.output.place, None if named is None else CredentialId(named)
        )

    async def retry(self, caller: AccountPrincipal, key: KeyInUse, job_id: JobId, changes: Changes) -> Allocation:
        """A new job that does once more what an ended one did, with an escrow of its own; as `submit`.

        Raises NotFound, Conflict before the end, Gone where its secrets are forgotten.
        """
        self._live.require_open()
        original = await self.get(caller.account_id, job_id)
        if not original.terminal:
            raise Conflict(
                "it has not ended yet; cancel it or wait",
                extra={"state": original.status.value, "allowed_from": sorted(TERMINAL_STATUSES)},
            )
        secrets: dict[str, str] = {}
        if JobSpec.model_validate_json(original.spec).secret_names:
            try:
                secrets = await self._secrets.get(original.id)
            except Unreadable as error:
                raise Gone("its secrets are not kept any more; submit it anew with them") from error
        attempts = await self._store.read(lambda tx: Attempts(tx).list_for(original.id))
        attempted = {attempt.node_id for attempt in attempts}
        order = repeat_order(original, attempted, secrets, changes, decimals=self.decimals)
        webhook = await self._webhooks.find_url(original.job_id)
        return await self.submit(caller, key, replace(order, webhook=webhook))

    async def _draft(
        self, caller: AccountPrincipal, key: KeyInUse, order: Order, terms: bytes, auth_id: RegistryAuthId | None
    ) -> Allocation:
        """The intent, but for who opens it and its nonce."""
        now = self._clock.now()
        quote = await self._quotes.honour(caller.account_id, order) if order.quote is not None else None
        if quote is not None:
            ceiling = Tokens(quote.price_per_hour)
        else:
            ceiling = order.max_price_per_hour or self._quotes.clearing_price(order)
        queue_ms = self._longest_wait(order)
        return Allocation(
            id=AllocationId(self._ids.new("alloc")),
            account_id=caller.account_id,
            wallet=caller.wallet,
            key=key.key,
            body_hash=key.body_sha256,
            opener=Opener.MARKET,
            nonce=0,
            escrow="",
            terms_hash=terms,
            spec=canonical_json(order.spec.model_dump(mode="json")).decode(),
            submitted=order.submitted,
            class_id=order.spec.class_id,
            regions=order.regions,
            gpu_count=order.spec.gpu_count,
            image=order.spec.image,
            egress=order.spec.network == "egress",
            disk_gb=order.spec.disk_gb,
            priority=order.priority,
            ceiling_per_hour=ceiling,
            deposit=self._quotes.deposit(ceiling, order.limit),
            max_ms=order.limit,
            max_attempts=order.retry.max_attempts,
            stop_grace_ms=Millis(order.spec.stop_grace_s * 1000),
            queue_ms=queue_ms,
            queue_until_ms=now + queue_ms,
            created_at_ms=now,
            only_nodes=order.only_nodes,
            excluded=order.exclude_nodes,
            quote_id=None if quote is None else quote.id,
            name=order.name,
            labels=order.labels,
            tiers=order.spec.tiers or (),
            min_cuda=order.min_cuda,
            min_reputation_millionths=order.min_reputation_millionths,
            retry_on=tuple(sorted(order.retry.on)),
            retry_exit_codes=tuple(sorted(order.retry.exit_codes)),
            retry_extend=order.retry.extend,
            retry_of=order.retry_of,
            auto_extend_ms=order.auto_extend_ms,
            consumer_id=order.consumer_id,
            model=order.model,
            expected_ms=await self._quotes.expected(caller.account_id, order),
            registry_auth_id=auth_id,
        )

    def _longest_wait(self, order: Order) -> Millis:
        """How long it may wait for a node. Raises Invalid where the chain lets nobody wait so long for an escrow."""
        most = self._chain.terms.queue_limit
        wanted = QUEUE_MS if order.queue_ms is None else order.queue_ms
        if wanted <= most or order.queue_ms is None or order.retry_of is not None:
            return min(wanted, most)
        raise Invalid.field(
            "queue_seconds",
            DetailCode.OUT_OF_RANGE,
            f"is more than the {most // 1000} s that an escrow waits on this chain (`timing.queue_limit_s`)",
        )

    async def _adopt(self, draft: Allocation, seal: Callable[[Transaction], None]) -> Allocation | None:
        """An escrow of these very terms that an earlier store opened: it is this job, and is never opened again."""
        found = await self._store.lookup(lambda tx: Books(tx).find_by_terms(draft.wallet, draft.terms_hash))
        if found is None:
            return None
        view = await self._chain.find_escrow(found.escrow)
        opener = Opener.WALLET if found.opener == found.wallet else Opener.MARKET
        state, reason = AllocationState.RESERVING, Reason.RUNNING
        if view is None or view.state == "closing":
            state, reason = AllocationState.FAILED, Reason.MARKET_ERROR
        elif view.state == "assigned":
            # Its node goes on and settles by itself; the events tell how it ended.
            state, reason = AllocationState.RELEASING, Reason.MARKET_ERROR
        adopted = replace(
            draft,
            opener=opener,
            nonce=found.nonce,
            escrow=found.escrow,
            deposit=Tokens(found.deposit),
            state=state,
            reason=reason,
            attempt=found.attempt,
            funded_at_ms=self._clock.now(),
            open_signature=found.opened_signature,
            completed_at_ms=self._clock.now() if reason is not Reason.RUNNING else None,
            error="submitted to an earlier store of this market" if reason is not Reason.RUNNING else None,
        )
        _log.warning("escrow recognised", action="jobs.adopt", escrow=found.escrow, state=state.value)
        await self._live.create(adopted, also=seal)
        return adopted

    async def _fund_new(
        self,
        caller: AccountPrincipal,
        key: KeyInUse,
        draft: Allocation,
        seal: Callable[[Transaction], None],
        unsigned: Unsigned = Unsigned.ASK_WALLET,
    ) -> Allocation:
        funds = await self._funds(draft)
        obstacle = funds.obstacle(draft.ceiling_per_hour, self._chain.now())
        if obstacle is None and self._waiting_on_our_rent(draft.wallet) >= MAX_UNASSIGNED:
            obstacle = BlockedBy.UNASSIGNED
        opener = Opener.MARKET if obstacle is None else Opener.WALLET
        if obstacle is not None:
            unsigned.require(obstacle)
            if draft.auto_extend_ms:
                raise Invalid.field(
                    "auto_extend",
                    DetailCode.CONFLICT,
                    f"needs an allowance that covers the job ({obstacle.value}): the market extends only what it opens",
                )
            self._require(funds)
        async with self._wallet_locks.setdefault(draft.wallet, asyncio.Lock()):
            intent = self._with_nonce(draft, funds, opener, await self._nonces_of(draft, funds, opener))
            budget = self._budget(caller)

            def bind(tx: Transaction) -> None:
                key.bind(tx)
                seal(tx)
                if opener is Opener.MARKET:
                    budget.hold(tx, intent.id, intent.deposit)

            try:
                await self._live.create(intent, also=bind)
            except UniqueViolation as error:
                raise IdempotencyKeyReused from error
        crash_point("market.intent_written")
        if obstacle is not None:
            raise await self._signature_required(caller, key, intent, funds, obstacle)
        try:
            return await self._opened(intent.id)
        except EscrowRefused:
            known = self._live.find(intent.id) or intent
            obstacle = REFUSALS.get(known.error or "")
            if obstacle is None:
                raise
        # Another request of this wallet was quicker; now the wallet's signature pays.
        funds = await self._funds(known)
        self._require(funds)
        unsigned.require(obstacle)
        known = await self._let_wallet_open(caller, known, funds)
        raise await self._signature_required(caller, key, known, funds, obstacle)

    def _waiting_on_our_rent(self, wallet: str) -> int:
        """At least the wallet's unassigned escrows of ours; exactly so many where they come near what is allowed."""
        most = self._live.count_of_wallet(wallet)
        if most < MAX_UNASSIGNED:
            return most
        return sum(
            a.opener is Opener.MARKET and (a.opening or a.state is AllocationState.RESERVING)
            for a in self._live.of_wallet(wallet)
        )

    async def _go_on(
        self,
        caller: AccountPrincipal,
        key: KeyInUse,
        known: Allocation,
        unsigned: Unsigned = Unsigned.ASK_WALLET,
    ) -> Allocation:
        """A key that was used before: the answer, or the next step towards it."""
        if known.state is not AllocationState.REQUESTED:
            return known
        if known.opening:
            return await self._opened(known.id)
        # Whether it can still land is asked before whether it has: what landed in between is then seen.
        dead = known.opener is Opener.MARKET or await self._is_dead(caller, key)
        if known.opener is Opener.WALLET and await self._chain.find_escrow(known.escrow) is not None:
            # Landed: its event is about to be read.
            return await self._opened(known.id)
        funds = await self._funds(known)
        obstacle = funds.obstacle(known.ceiling_per_hour, self._chain.now())
        if obstacle is None and dead:
            await self._let_market_open(caller, known, funds)
            return await self._opened(known.id)
        if obstacle is None:
            obstacle = BlockedBy.OUTSTANDING
        self._require(funds)
        unsigned.require(obstacle)
        if known.opener is Opener.MARKET:
            known = await self._let_wallet_open(caller, known, funds)
        raise await self._signature_required(caller, key, known, funds, obstacle)

    async def _is_dead(self, caller: AccountPrincipal, key: KeyInUse) -> bool:
        """Whether the transaction that the wallet was given can no longer land: only then another way is taken."""
        operation = f"{key.scope.route} {key.key}"
        built = await self._store.lookup(lambda tx: BuiltTransactions(tx).find_latest(caller.account_id, operation))
        return built is None or await self._chain.expired(built.last_valid_block_height)

    async def _funds(self, allocation: Allocation) -> Funds:
        found = await self._chain.find_funds(allocation.wallet)
        return Funds(found.vault, found.allowance, found.wallet_balance, allocation.deposit)

    def _require(self, funds: Funds) -> None:
        """Raise InsufficientFunds when vault and wallet together can't pay the deposit."""
        if funds.wallet_balance >= funds.gap:
            return
        available = Tokens(funds.free + funds.wallet_balance)
        raise InsufficientFunds(
            extra={
                "required": self._amount(funds.deposit),
                "available": self._amount(funds.free),
                "wallet_balance": self._amount(funds.wallet_balance),
                "shortfall": self._amount(Tokens(funds.deposit - available)),
                "currency": self.currency,
                "missing": "payment_token",
            }
        )

    async def _nonces_of(self, draft: Allocation, funds: Funds, opener: Opener) -> set[int]:
        """Nonces that intents hold here. The caller holds the wallet's lock until its own is written."""
        return await self._nonces.of(draft.wallet, opener, funds.nonces(opener).oldest)

    def _with_nonce(self, draft: Allocation, funds: Funds, opener: Opener, taken: set[int]) -> Allocation:
        """The intent with its nonce and the address that follows from it. The key keeps both."""
        nonce = funds.nonces(opener).choose(taken)
        if nonce is None:
            raise QuotaExceeded(
                "too many requests of this wallet wait for its signature; sign or let them expire",
                extra={"quota": "unsigned_escrows", "limit": 1280},
            )
        return changed(
            draft,
            opener=opener,
            nonce=nonce,
            escrow=self._chain.escrow_address(draft.wallet, opener, nonce),
            opening=opener is Opener.MARKET,
        )

    async def _let_market_open(self, caller: AccountPrincipal, known: Allocation, funds: Funds) -> None:
        await self._reopen(caller, known, funds, Opener.MARKET)

    async def _let_wallet_open(self, caller: AccountPrincipal, known: Allocation, funds: Funds) -> Allocation:
        """The market's own try was refused and nothing landed: the wallet's signature pays."""
        await self._reopen(caller, known, funds, Opener.WALLET)
        return self._live.find(known.id) or known

    async def _reopen(self, caller: AccountPrincipal, known: Allocation, funds: Funds, opener: Opener) -> None:
        budget = self._budget(caller)

        def pay(tx: Transaction) -> None:
            # What an earlier try held was given back when it was refused.
            if opener is Opener.MARKET:
                budget.hold(tx, known.id, known.deposit)

        async with self._wallet_locks.setdefault(known.wallet, asyncio.Lock()):
            taken = await self._nonces_of(known, funds, opener)

            def decide(present: Allocation, attempt: Attempt | None) -> Change | None:
                if present.state is not AllocationState.REQUESTED or present.opening:
                    return None
                if present.opener is opener:
                    again = replace(present, opening=opener is Opener.MARKET, error=None)
                else:
                    again = replace(self._with_nonce(present, funds, opener, taken), error=None)
                return Change(again, attempt, also=pay)

            await self._live.change(known.id, decide)

    def _budget(self, caller: AccountPrincipal) -> KeyBudget:
        return KeyBudget(caller, self._clock, self.decimals, self.currency)

    async def _opened(self, allocation_id: AllocationId) -> Allocation:
        """Wait until the escrow is confirmed. Raises ChainUnavailable when that takes too long or failed."""

        def over(allocation: Allocation) -> bool:
            requested = allocation.state is AllocationState.REQUESTED
            return not requested or (allocation.opener is Opener.MARKET and not allocation.opening)

        reached = await self._live.wait_for(allocation_id, over, CONFIRM_MS)
        if reached is None:
            found = await self._store.lookup(lambda tx: Allocations(tx).find(allocation_id))
            if found is None or not over(found):
                raise ChainUnavailable
            reached = found
        if reached.state is AllocationState.REQUESTED:
            raise EscrowRefused(
                f"the escrow was not opened ({reached.error}); nothing was spent, repeat with the same Idempotency-Key"
            )
        return reached

    async def _signature_required(
        self, caller: AccountPrincipal, key: KeyInUse, intent: Allocation, funds: Funds, obstacle: BlockedBy
    ) -> SignatureRequired:
        """402 with the transaction that opens this escrow: the same bytes as long as they can land."""
        act = OpenEscrow(
            escrow=intent.escrow,
            wallet=intent.wallet,
            nonce=intent.nonce,
            class_id=intent.class_id,
            terms_hash=intent.terms_hash,
            ceiling_per_hour=intent.ceiling_per_hour,
            deposit=intent.deposit,
            max_time=intent.max_ms,
            attempts=intent.max_attempts,
        )
        steps = self._chain.open_steps(act, deposit_gap=funds.gap, open_vault=funds.vault is None)
        amount = self._amount(intent.deposit)
        summary = f"opens an escrow of {amount} {self.currency} for at most {_duration(intent.max_ms)}"
        if funds.gap:
            summary = f"deposits {self._amount(funds.gap)} {self.currency} and {summary}"
        prepared: Prepared = await self._transactions.prepare(caller, key, "open_escrow", steps, summary)
        expires_at = instant_text(prepared.expires_at)
        message = None
        if obstacle is BlockedBy.OUTSTANDING:
            message = (
                f"the allowance covers it now, but the transaction given before can land until {expires_at}: sign and"
                " send that one, or repeat this request with the same key once it has expired; nothing is spent before"
            )
        return SignatureRequired(
            message,
            extra={
                "transaction": prepared.transaction,
                "escrow": intent.escrow,
                "expires_at": expires_at,
                "idempotency_key": key.key,
                "deposit": amount,
                "currency": self.currency,
                "blocked_by": obstacle.value,
                "summary": prepared.summary,
            },
        )

    # reading

    async def get(self, account_id: AccountId, job_id: JobId) -> Allocation:
        """Raises NotFound, for another account's job too.

        By the store, as every view is, and once what stands in memory is no older: it follows a commit a moment later,
        and whoever was shown that a job runs, or is over, must not be told afterwards that it isn't.
        """
        allocation_id = allocation_of(job_id)
        found = await self._store.lookup(lambda tx: Allocations(tx).find(allocation_id))
        if found is None or found.account_id != account_id or found.funded_at_ms is None:
            raise NotFound
        await self._live.catch_up(found)
        return found

    async def details(self, allocation: Allocation) -> JobDetails:
        """Everything that the job's view shows, of one moment, which is no later than what the market acts on."""

        def read(tx: Transaction) -> JobDetails:
            present = Allocations(tx).find(allocation.id) or allocation
            books = Books(tx)
            queued = present.state is AllocationState.RESERVING
            return JobDetails(
                allocation=present,
                attempts=Attempts(tx).list_for(present.id),
                escrow=books.find_escrow(present.escrow),
                transactions=books.list_transactions(present.escrow),
                queue_position=self._scheduler.queue_position(present) if queued else None,
                because=self._scheduler.obstacles(present) if queued else (),
                result=shown_result(tx, present),
                delivery=BucketDeliveries(tx).find(present.id),
                checkpoint=Checkpoints(tx).find(present.id),
            )

        found = await self._store.lookup(read)
        while await self._live.catch_up(found.allocation):
            found = await self._store.lookup(read)
        return found

    async def placements(self, allocation: Allocation) -> list[tuple[int, Placement]]:
        """Why each attempt went to its node, first to last."""
        return await self._store.read(lambda tx: Placements(tx).list_for(allocation.id))

    async def list_jobs(
        self, wanted: AllocationFilter, *, limit: int, offset: int
    ) -> tuple[list[tuple[Allocation, Sequence[Attempt]]], int]:
        """A page, newest first, each with its attempts; and how many match in all."""

        def read(tx: Transaction) -> tuple[list[tuple[Allocation, Sequence[Attempt]]], int]:
            found, total = Allocations(tx).page(wanted, limit=limit, offset=offset)
            attempts = Attempts(tx).list_for_each([a.id for a in found])
            return [(a, attempts[a.id]) for a in found], total

        return await self._store.read(read)

    # cancelling

    async def cancel(self, account_id: AccountId, job_id: JobId) -> Allocation:
        """Stop it. What nobody runs is refunded at once. Raises NotFound, AlreadyTerminal."""
        self._live.require_open()
        allocation = await self.get(account_id, job_id)
        if allocation.terminal:
            raise AlreadyTerminal(extra={"state": allocation.status.value})
        now = self._clock.now()

        def decide(present: Allocation, attempt: Attempt | None) -> Change | None:
            if present.cancelling or present.state is AllocationState.RELEASING:
                return None
            return Change(replace(present, cancelling=True, cancelling_at_ms=now), attempt)

        present = await self._live.change(allocation.id, decide)
        self._scheduler.wake(allocation.id)
        if present is not None and self._idle(present):
            present = await self._live.wait_for(allocation.id, lambda a: a.terminal, CANCEL_MS) or present
        return present or await self.get(account_id, job_id)

    def _idle(self, allocation: Allocation) -> bool:
        attempt = self._live.attempt(allocation.id)
        return attempt is None or attempt.phase is AttemptPhase.ENDED

    def _amount(self, units: Tokens) -> str:
        return format_amount(units, self.decimals)


@contextlib.contextmanager
def _noted(found: list[Detail]) -> Iterator[None]:
    """What is wrong in the block is added to the rest; the look goes on behind it."""
    try:
        yield
    except Invalid as wrong:
        found += wrong.details


def cost_of(attempts: Sequence[Attempt]) -> Tokens:
    """What is paid or acknowledged so far, over all attempts."""
    return Tokens(sum(max(a.paid, a.amount) for a in attempts))


def _duration(limit_ms: int) -> str:
    seconds = limit_ms // 1000
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
