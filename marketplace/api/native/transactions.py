"""`/v1/transactions`: relays what was built here and signed by its wallet. Source: api.md section 5.7."""

from typing import Annotated

from pydantic import Field

from marketplace.api.fields import RequestModel, ResponseModel, SignatureText
from marketplace.api.routes import Call, Route, reading, scope
from marketplace.errors import (
    ChainUnavailable,
    NotFound,
    Starting,
    TransactionExpired,
    TransactionRejected,
    UnsupportedTransaction,
)
from marketplace.services.principals import Scope
from marketplace.services.transactions import TransactionService


class RelayRequest(RequestModel):
    """transaction: base64, with every signature."""

    transaction: Annotated[str, Field(min_length=1, max_length=4096)]


class RelayResponse(ResponseModel):
    signature: str
    state: str


class TransactionResponse(ResponseModel):
    """state: sent, confirmed, finalized, failed or expired. error: why it failed."""

    signature: str
    state: str
    slot: int | None
    error: str | None


def transaction_routes(transactions: TransactionService) -> list[Route]:
    """Relay, look up."""

    async def relay(call: Call, body: RelayRequest) -> RelayResponse:
        relayed = await transactions.relay(call.account_id, body.transaction)
        return RelayResponse(signature=relayed.signature, state="sent")

    async def get_transaction(call: Call, signature: SignatureText) -> TransactionResponse:
        found = await transactions.get(call.account_id, signature)
        return TransactionResponse(
            signature=found.signature, state=found.state.value, slot=found.slot, error=found.error
        )

    return [
        Route(
            "POST",
            "/v1/transactions",
            relay,
            "Send a signed transaction",
            scope(Scope.MONEY),
            status=202,
            idempotent=True,
            errors=(TransactionExpired, TransactionRejected, UnsupportedTransaction, ChainUnavailable, Starting),
        ),
        Route(
            "GET",
            "/v1/transactions/{signature}",
            get_transaction,
            "Where a sent transaction stands",
            reading(Scope.MONEY),
            errors=(NotFound,),
        ),
    ]
