"""Transactions for a wallet to sign, from building to the chain. Source: api.md sections 1.3 and 5.7.

The market never asks a wallet to trust it: a transaction is simulated, described, and stored; what comes back
signed is relayed only if its message is, byte for byte, one that was built here. The same request (same
Idempotency-Key) gets the same bytes while they may land, so that a repeated deposit can't deposit twice.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson
from solders.pubkey import Pubkey

from marketplace.chain.accounts import AllowanceAccount, EscrowAccount, PositionAccount, TicketAccount, VaultAccount
from marketplace.chain.addresses import parse_signature
from marketplace.chain.answers import TransactionFailure
from marketplace.chain.errors import TransactionFailed
from marketplace.chain.instructions import Delegate, GrantAllowance, OpenEscrow, OpenVault, Unbond
from marketplace.chain.outbox import OutboxEntry, OutboxState, OutboxStore
from marketplace.chain.program import TOKEN_ACCOUNT_BYTES, AnchorCodec
from marketplace.chain.sender import EXPIRY_MARGIN_BLOCKS, Sender
from marketplace.chain.signed_bytes import SignedBytes, read_signed
from marketplace.chain.transactions import LAMPORTS_PER_SIGNATURE, CreateTokenAccount, Step, inspect
from marketplace.domain.ids import AccountId, TransactionId
from marketplace.domain.instants import instant_text
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Millis
from marketplace.errors import InsufficientFunds, NotFound, TransactionExpired, TransactionRejected
from marketplace.services.chain_link import ChainLink
from marketplace.services.clock import Clock, Ids
from marketplace.services.idempotency import KeyInUse
from marketplace.services.principals import AccountPrincipal
from marketplace.store.engine import Store, Transaction
from marketplace.store.transactions import BuiltTransaction, BuiltTransactions

UNSIGNED_RETENTION_MS: Final = 24 * 3600 * 1000
"""How long what never came back is kept: as long as the key that asked for it."""


PREPARED: Final = "prepared."
"""Begins the kind of every transaction that `TransactionService.prepare` built."""


_WITHOUT_LAMPORTS: Final = frozenset({"AccountNotFound", "InsufficientFundsForFee", "InsufficientFundsForRent"})
"""Solana's names for a payer that can't pay."""
_SOL_DECIMALS: Final = 9


class RelayState(StrEnum):
    """Where a relayed transaction stands. Source: api.md section 5.7."""

    SENT = "sent"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Prepared:
    """An unsigned transaction for its wallet. transaction: base64. summary: its effect in words.

    units: compute units of its simulation. details: what the use case that built it says of it beside, as it wrote it.
    """

    transaction: str
    expires_at: Millis
    summary: str
    units: int = 0
    details: str = ""


@dataclass(frozen=True, slots=True)
class _Order:
    """Whose transaction is built, for which request. kind: what it does."""

    account_id: AccountId
    wallet: str
    operation: str
    kind: str


@dataclass(frozen=True, slots=True)
class Relayed:
    """A transaction that was handed to the chain. error: the failure in words."""

    signature: str
    state: RelayState
    slot: int | None
    error: str | None


class TransactionService:
    """Builds, keeps, relays and reports."""

    def __init__(
        self, store: Store, link: ChainLink, sender: Sender, outbox: OutboxStore, clock: Clock, ids: Ids
    ) -> None:
        self._store = store
        self._link = link
        self._sender = sender
        self._outbox = outbox
        self._clock = clock
        self._ids = ids

    async def find_prepared(self, caller: AccountPrincipal, key: KeyInUse) -> Prepared | None:
        """What was prepared under this key and may have landed, or still may: its request isn't looked at again."""
        earlier = await self._store.lookup(
            lambda tx: BuiltTransactions(tx).find_latest(caller.account_id, _operation(key))
        )
        if earlier is None or await self._is_dead(earlier):
            return None
        return _prepared(orjson.loads(earlier.answer))

    async def prepare(
        self,
        caller: AccountPrincipal,
        key: KeyInUse,
        kind: str,
        steps: Sequence[Step],
        summary: str,
        details: str = "",
    ) -> Prepared:
        """A simulated, stored transaction of these steps, paid and signed by the caller's wallet.

        Under a key that was used before: the same bytes, unless they can provably not land any more.
        Raises InsufficientFunds when the wallet can't pay fee and rent, TransactionRejected when the simulation
        fails otherwise, ChainUnavailable.
        """
        earlier = await self.find_prepared(caller, key)
        if earlier is not None:
            return earlier
        order = _Order(caller.account_id, caller.wallet, _operation(key), PREPARED + kind)
        return await self._build(order, steps, summary, details, key.bind)

    async def _build(
        self, order: _Order, steps: Sequence[Step], summary: str, details: str, bind: Callable[[Transaction], None]
    ) -> Prepared:
        try:
            unsigned = await self._link.assembler.assemble(steps, Pubkey.from_string(order.wallet))
        except TransactionFailed as error:
            if _lacks_lamports(error):
                raise await self._without_lamports(order.wallet, steps) from error
            raise self._rejected(error.failure) from error
        expires_at = await self._link.expires_at(unsigned.last_valid_block_height)
        answer = {
            "transaction": unsigned.base64(), "expires_at": expires_at, "summary": summary, "units": unsigned.units,
            "details": details,
        }  # fmt: skip

        def write(tx: Transaction) -> None:
            bind(tx)
            self.keep(
                tx,
                account_id=order.account_id,
                wallet=order.wallet,
                operation=order.operation,
                kind=order.kind,
                message=unsigned.message_bytes,
                answer=orjson.dumps(answer).decode(),
                last_valid_block_height=unsigned.last_valid_block_height,
            )

        await self._store.write(write)
        return _prepared(answer)

    def keep(
        self,
        tx: Transaction,
        *,
        account_id: AccountId,
        wallet: str,
        operation: str,
        kind: str,
        message: bytes,
        answer: str,
        last_valid_block_height: int,
    ) -> None:
        """Let a transaction that another use case built (an escrow to open) be relayed; in its unit of work.

        operation: names the request it belongs to. answer: JSON text to repeat, for `BuiltTransactions.find_latest`.
        """
        BuiltTransactions(tx).create(
            BuiltTransaction(
                id=TransactionId(self._ids.new("txn")),
                account_id=account_id,
                operation=operation,
                wallet=wallet,
                kind=kind,
                message_sha256=hashlib.sha256(message).digest(),
                answer=answer,
                last_valid_block_height=last_valid_block_height,
                built_at=self._clock.now(),
                signature=None,
            )
        )

    async def relay(self, account_id: AccountId, transaction: str) -> Relayed:
        """Send a signed transaction that was built here; sent before, say where it stands.

        transaction: base64, signed by everybody. Raises UnsupportedTransaction, TransactionRejected,
        TransactionExpired, ChainUnavailable.
        """
        signed = read_signed(transaction)
        digest = hashlib.sha256(signed.message).digest()
        built = await self._store.lookup(lambda tx: BuiltTransactions(tx).find_by_message(digest))
        if built is None or built.account_id != account_id:
            raise TransactionRejected
        if not signed.complete:
            raise TransactionRejected("a signature is missing or wrong; the transaction was not sent, sign it as built")
        operation = f"relay {built.id}"
        entry = await self._outbox.latest(operation)
        if entry is None:
            try:
                await self._admit(built, signed)
            except TransactionExpired as error:
                raise await self._expired(built) from error
            await self._store.write(lambda tx: BuiltTransactions(tx).mark_relayed(built.id, signed.signature))
            entry = await self._sender.submit(operation, signed.raw, built.last_valid_block_height)
        if entry.state is OutboxState.EXPIRED:
            raise await self._expired(built)
        return self._relayed(entry)

    async def get(self, account_id: AccountId, signature: str) -> Relayed:
        """Where a relayed transaction stands. Raises NotFound for any other."""
        built = await self._store.lookup(lambda tx: BuiltTransactions(tx).find_by_signature(signature))
        if built is None or built.account_id != account_id:
            raise NotFound
        entry = await self._outbox.find(parse_signature(signature))
        if entry is None:
            raise NotFound
        return self._relayed(entry)

    async def forget_unsigned(self) -> int:
        """Delete old transactions that never came back; how many."""
        before = Millis(self._clock.now() - UNSIGNED_RETENTION_MS)
        return await self._store.write(lambda tx: BuiltTransactions(tx).forget_unsigned(before))

    async def _admit(self, built: BuiltTransaction, signed: SignedBytes) -> None:
        """Refuse what can't land: too old, or failing in simulation."""
        if await self._link.rpc.get_block_height() > built.last_valid_block_height:
            raise TransactionExpired
        simulation = await self._link.rpc.simulate_transaction(signed.raw)
        failure = simulation.failure
        # The wallet may have sent it itself: then it is not a failure, and the sender finds it landed.
        if failure is not None and failure.kind != "AlreadyProcessed":
            if failure.kind == "BlockhashNotFound":
                raise TransactionExpired
            raise self._rejected(failure)

    async def _expired(self, built: BuiltTransaction) -> TransactionExpired:
        """The error, with a fresh transaction of the same steps where this one can provably not land any more.

        Only for what `prepare` built: what belongs to another use case's intent is that use case's to renew.
        """
        if not built.kind.startswith(PREPARED) or not await self._is_dead(built):
            return TransactionExpired()
        answer = orjson.loads(built.answer)
        steps = inspect(answer["transaction"], self._link.codec).steps
        order = _Order(built.account_id, built.wallet, built.operation, built.kind)
        fresh = await self._build(order, steps, answer["summary"], answer.get("details", ""), lambda _tx: None)
        return TransactionExpired(
            extra={
                "transaction": fresh.transaction,
                "expires_at": instant_text(fresh.expires_at),
                "summary": fresh.summary,
            }
        )

    async def _is_dead(self, built: BuiltTransaction) -> bool:
        """Whether these bytes can provably not land any more, and haven't."""
        if built.signature is not None:
            entry = await self._outbox.find(parse_signature(built.signature))
            if entry is not None:
                return entry.state in {OutboxState.FAILED, OutboxState.EXPIRED}
            # A process was killed before it recorded what it meant to send: nothing was sent.
        height = await self._link.rpc.get_block_height()
        return height > built.last_valid_block_height + EXPIRY_MARGIN_BLOCKS

    def _rejected(self, failure: TransactionFailure) -> TransactionRejected:
        name = self._link.codec.error_name(failure.custom) if failure.custom is not None else None
        why = (self._link.codec.error_message(name) if name is not None else None) or str(failure)
        extra = {} if name is None else {"program_error": {"number": failure.custom, "name": name}}
        return TransactionRejected(f"the transaction would fail: {why}; it was not sent and nothing moved", extra=extra)

    async def _without_lamports(self, wallet: str, steps: Sequence[Step]) -> InsufficientFunds:
        """402 with what the wallet needs for the fee and for the rent of the accounts that the steps create."""
        rpc, codec = self._link.rpc, self._link.codec
        sizes = [0, *(size for step in steps for size in _created_sizes(step, codec))]
        balance, *rents = await asyncio.gather(
            rpc.get_balance(Pubkey.from_string(wallet)), *(rpc.get_minimum_balance_for_rent_exemption(n) for n in sizes)
        )
        required = LAMPORTS_PER_SIGNATURE + sum(rents)
        return InsufficientFunds(
            "the wallet has too little SOL for the fee and for the rent of its accounts; nothing moved, send it some",
            extra={
                "required": format_amount(required, _SOL_DECIMALS),
                "available": format_amount(balance, _SOL_DECIMALS),
                "wallet_balance": format_amount(balance, _SOL_DECIMALS),
                "shortfall": format_amount(max(0, required - balance), _SOL_DECIMALS),
                "currency": "SOL",
                "missing": "lamports",
            },
        )

    def _relayed(self, entry: OutboxEntry) -> Relayed:
        states = {
            OutboxState.BUILT: RelayState.SENT,
            OutboxState.SENT: RelayState.SENT,
            OutboxState.CONFIRMED: RelayState.CONFIRMED,
            OutboxState.FINALIZED: RelayState.FINALIZED,
            OutboxState.FAILED: RelayState.FAILED,
            OutboxState.EXPIRED: RelayState.EXPIRED,
        }
        error = None
        if entry.failure is not None:
            name = self._link.codec.error_name(entry.failure.custom) if entry.failure.custom is not None else None
            error = f"{entry.failure} ({name})" if name else str(entry.failure)
        return Relayed(str(entry.signature), states[entry.state], entry.slot, error)


def _operation(key: KeyInUse) -> str:
    return f"{key.scope.route} {key.key}"


def _lacks_lamports(error: TransactionFailed) -> bool:
    return error.failure.kind in _WITHOUT_LAMPORTS or any("insufficient lamports" in line for line in error.logs)


def _created_sizes(step: Step, codec: AnchorCodec) -> list[int]:
    """Bytes of the accounts that a step creates at the wallet's cost."""
    if isinstance(step, CreateTokenAccount):
        return [TOKEN_ACCOUNT_BYTES]
    created: dict[type, list[int]] = {
        OpenVault: [codec.account_bytes(VaultAccount), TOKEN_ACCOUNT_BYTES],
        GrantAllowance: [codec.account_bytes(AllowanceAccount)],
        OpenEscrow: [codec.account_bytes(EscrowAccount)],
        Delegate: [codec.account_bytes(PositionAccount)],
        Unbond: [codec.account_bytes(TicketAccount)],
    }
    return created.get(type(step), [])


def _prepared(answer: Mapping[str, Any]) -> Prepared:
    return Prepared(
        transaction=answer["transaction"],
        expires_at=Millis(answer["expires_at"]),
        summary=answer["summary"],
        # Intents of other use cases keep their own answers, which have no more than these three.
        units=answer.get("units", 0),
        details=answer.get("details", ""),
    )
