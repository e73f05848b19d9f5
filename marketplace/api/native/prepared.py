"""What every route answers that prepares a transaction for the wallet to sign."""

from marketplace.api.fields import MillisInstant, ResponseModel
from marketplace.services.transactions import Prepared


class PreparedResponse(ResponseModel):
    """transaction: base64, unsigned and simulated. summary: its effect in words; the bytes are the truth."""

    transaction: str
    expires_at: MillisInstant
    summary: str


def prepared_response(prepared: Prepared) -> PreparedResponse:
    """The answer's body."""
    return PreparedResponse(transaction=prepared.transaction, expires_at=prepared.expires_at, summary=prepared.summary)
