"""Quotes as they were answered."""

from dataclasses import dataclass

from marketplace.domain.ids import AccountId, QuoteId
from marketplace.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class StoredQuote:
    """token: what the market signed. body: JSON of the answer."""

    id: QuoteId
    account_id: AccountId
    token: str
    body: str
    expires_at_ms: int


class Quotes:
    """Create, find, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, quote: StoredQuote) -> None:
        self._tx.change(
            "INSERT INTO quotes (id, account_id, token, body, expires_at_ms)"
            " VALUES (:id, :account, :token, :body, :expires)",
            {
                "id": quote.id,
                "account": quote.account_id,
                "token": quote.token,
                "body": quote.body,
                "expires": quote.expires_at_ms,
            },
        )

    def find(self, quote_id: QuoteId) -> StoredQuote | None:
        row = self._tx.row(
            "SELECT id, account_id, token, body, expires_at_ms FROM quotes WHERE id = :id", {"id": quote_id}
        )
        return None if row is None else StoredQuote(*row)

    def forget_before(self, at_ms: int) -> int:
        """Delete quotes that expired before `at_ms`; how many."""
        return self._tx.change("DELETE FROM quotes WHERE expires_at_ms < :at", {"at": at_ms})
