"""`/v1/escrows`: what the wallet has locked, as the chain shows it. Source: api.md section 5.7."""

from typing import Literal

from marketplace.api.fields import Address, DecimalText, MillisInstant, Page, ResponseModel
from marketplace.api.native.prepared import PreparedResponse, prepared_response
from marketplace.api.routes import Call, Route, reading, scope
from marketplace.domain.money import format_amount
from marketplace.errors import ChainUnavailable, Conflict, NotFound, Starting, TransactionRejected
from marketplace.services.escrows import EscrowService, EscrowView
from marketplace.services.principals import Scope


class EscrowsQuery(Page):
    state: Literal["open", "assigned", "closing"] | None = None


class EscrowEntry(ResponseModel):
    address: str
    state: str
    opener: str
    market: str
    nonce: int
    gpu: str | None
    price_ceiling_per_hour: DecimalText
    deposit: DecimalText
    paid: DecimalText
    reserve: DecimalText
    currency: str
    max_ms: int
    billed_ms: int
    opened_at: MillisInstant
    assign_by: MillisInstant
    stop_at: MillisInstant | None
    attempt: int
    node: str | None
    rent_lamports: int
    allocation_id: str | None


class EscrowList(ResponseModel):
    escrows: list[EscrowEntry]
    total: int
    has_more: bool


def escrow_routes(escrows: EscrowService) -> list[Route]:
    """List, read, cancel."""

    def entry(view: EscrowView) -> EscrowEntry:
        decimals = escrows.decimals
        return EscrowEntry(
            address=view.address,
            state=view.state,
            opener=view.opener,
            market=view.market,
            nonce=view.nonce,
            gpu=view.class_id or None,
            price_ceiling_per_hour=format_amount(view.price_ceiling_per_hour, decimals),
            deposit=format_amount(view.deposit, decimals),
            paid=format_amount(view.paid, decimals),
            reserve=format_amount(view.reserve, decimals),
            currency=escrows.currency,
            max_ms=view.max_ms,
            billed_ms=view.billed_ms,
            opened_at=view.opened_at,
            assign_by=view.assign_by,
            stop_at=view.stop_at,
            attempt=view.attempt,
            node=view.node,
            rent_lamports=view.rent_lamports,
            allocation_id=view.allocation_id,
        )

    async def list_escrows(call: Call, query: EscrowsQuery) -> EscrowList:
        views = await escrows.list_for_wallet(call.account.wallet, query.state)
        page = views[query.offset : query.offset + query.limit]
        return EscrowList(
            escrows=[entry(view) for view in page],
            total=len(views),
            has_more=query.offset + len(page) < len(views),
        )

    async def get_escrow(call: Call, address: Address) -> EscrowEntry:
        return entry(await escrows.get(call.account.wallet, address))

    async def cancel_escrow(call: Call, address: Address) -> PreparedResponse:
        return prepared_response(await escrows.prepare_cancellation(call.account, call.idempotency, address))

    chain = (ChainUnavailable, Starting)
    return [
        Route("GET", "/v1/escrows", list_escrows, "Escrows of the wallet", reading(Scope.MONEY), errors=chain),
        Route(
            "GET", "/v1/escrows/{address}", get_escrow, "One escrow", reading(Scope.MONEY), errors=(NotFound, *chain)
        ),
        Route(
            "POST",
            "/v1/escrows/{address}/cancel",
            cancel_escrow,
            "A cancellation to sign",
            scope(Scope.MONEY),
            idempotent=True,
            keep_answer=False,
            errors=(NotFound, Conflict, TransactionRejected, *chain),
        ),
    ]
