"""A wallet's escrows as the chain shows them, and the wallet's own way out of one. Source: api.md section 5.7."""

from collections.abc import Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey

from marketplace.chain.accounts import EscrowAccount, EscrowState
from marketplace.chain.addresses import class_name
from marketplace.chain.builders import EscrowRef
from marketplace.chain.reader import Located
from marketplace.domain.ids import AllocationId
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import Conflict, NotFound
from marketplace.services.chain_link import ChainLink
from marketplace.services.idempotency import KeyInUse
from marketplace.services.principals import AccountPrincipal
from marketplace.services.transactions import Prepared, TransactionService
from marketplace.store.allocations import Allocations
from marketplace.store.engine import Store, Transaction


@dataclass(frozen=True, slots=True)
class EscrowView:
    """An escrow account; amounts in base units, instants in chain time. attempt, node: 0 and None before the first.

    allocation_id: what it pays for, None where the market knows of no such submission.
    """

    address: str
    state: str
    opener: str
    market: str
    nonce: int
    class_id: str
    price_ceiling_per_hour: Tokens
    deposit: Tokens
    paid: Tokens
    reserve: Tokens
    max_ms: Millis
    billed_ms: Millis
    opened_at: Millis
    assign_by: Millis
    stop_at: Millis | None
    attempt: int
    node: str | None
    rent_lamports: int
    allocation_id: AllocationId | None


class EscrowService:
    """Lists escrows of a wallet and prepares their cancellation."""

    def __init__(self, store: Store, link: ChainLink, transactions: TransactionService, currency: str) -> None:
        self._store = store
        self._link = link
        self._transactions = transactions
        self.currency = currency

    @property
    def decimals(self) -> int:
        """Of the payment token."""
        return self._link.facts.deployment.payment_decimals

    async def list_for_wallet(self, wallet: str, state: str | None) -> Sequence[EscrowView]:
        """Open escrows, the newest first. Raises ChainUnavailable."""
        found = await self._link.reader.list_escrows_of_wallet(Pubkey.from_string(wallet))
        paid_for = await self._allocations([str(entry.address) for entry in found])
        views = [_view(entry, paid_for.get(str(entry.address))) for entry in found]
        views.sort(key=lambda view: (-view.opened_at, view.address))
        return [view for view in views if state is None or view.state == state]

    async def get(self, wallet: str, address: str) -> EscrowView:
        """One escrow of the wallet. Raises NotFound, for a closed one and for another's too."""
        found = await self._find(wallet, address)
        return _view(found, (await self._allocations([address])).get(address))

    async def prepare_cancellation(self, caller: AccountPrincipal, key: KeyInUse, address: str) -> Prepared:
        """Close an open escrow, or stop an assigned one in 300 s. Raises NotFound, Conflict, ChainUnavailable."""
        found = await self._find(caller.wallet, address)
        state = EscrowState(found.account.state)
        if state is EscrowState.CLOSING or found.account.stop_at:
            raise Conflict(
                "this escrow is ending already; what isn't used returns to the vault by itself",
                extra={"state": state.name.lower(), "allowed_from": ["open", "assigned"]},
            )
        call = self._link.calls.cancel_escrow(EscrowRef.of(found.account), Pubkey.from_string(caller.wallet))
        summary = (
            "closes the escrow; the whole deposit returns to the vault"
            if state is EscrowState.OPEN
            else "stops billing within 300 s; what isn't used by then returns to the vault"
        )
        return await self._transactions.prepare(caller, key, "escrow.cancel", [call], summary)

    async def _allocations(self, escrows: Sequence[str]) -> dict[str, AllocationId]:
        def look(tx: Transaction) -> dict[str, AllocationId]:
            found = ((escrow, Allocations(tx).find_by_escrow(escrow)) for escrow in escrows)
            return {escrow: allocation.id for escrow, allocation in found if allocation is not None}

        return await self._store.read(look)

    async def _find(self, wallet: str, address: str) -> Located[EscrowAccount]:
        info = await self._link.rpc.find_account(Pubkey.from_string(address))
        if info is None or info.owner != self._link.codec.program:
            raise NotFound
        if info.data[:8] != self._link.codec.account_discriminator(EscrowAccount):
            raise NotFound
        found = Located(info.address, self._link.codec.account(EscrowAccount, info), info.lamports, info.slot)
        if str(found.account.wallet) != wallet:
            raise NotFound
        return found


def _view(entry: Located[EscrowAccount], allocation_id: AllocationId | None) -> EscrowView:
    account = entry.account
    running = account.attempt
    return EscrowView(
        address=str(entry.address),
        state=EscrowState(account.state).name.lower(),
        opener=str(account.opener),
        market=str(account.market),
        nonce=account.nonce,
        class_id=class_name(account.class_id),
        price_ceiling_per_hour=Tokens(account.ceiling_price),
        deposit=Tokens(account.deposit),
        paid=Tokens(account.paid),
        reserve=Tokens(account.contest.attempt.exposure if account.contest.attempt.number else 0),
        max_ms=Millis(account.max_time),
        billed_ms=Millis(account.ended_time + (running.billed if account.state == EscrowState.ASSIGNED else 0)),
        opened_at=Millis(account.opened_at),
        assign_by=Millis(account.assign_by),
        stop_at=Millis(account.stop_at) if account.stop_at else None,
        attempt=running.number,
        node=str(running.node) if running.number else None,
        rent_lamports=entry.lamports,
        allocation_id=allocation_id,
    )
