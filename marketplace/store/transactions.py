"""Transactions built here for a wallet to sign. Only these are relayed, byte for byte."""

from dataclasses import dataclass

from marketplace.domain.ids import AccountId, TransactionId
from marketplace.domain.quantities import Millis
from marketplace.store.engine import Transaction

_COLUMNS = (
    "id, account_id, operation, wallet, kind, message_sha256, answer, last_valid_block_height, built_at_ms, signature"
)


@dataclass(frozen=True, slots=True)
class BuiltTransaction:
    """A transaction that waits for its wallet.

    operation: names the request that asked for it; the same request again gets the same bytes while they may land.
    answer: JSON text of that request's answer. signature: base58, once it was relayed.
    """

    id: TransactionId
    account_id: AccountId
    operation: str
    wallet: str
    kind: str
    message_sha256: bytes
    answer: str
    last_valid_block_height: int
    built_at: Millis
    signature: str | None


class BuiltTransactions:
    """Create, find, mark relayed, forget."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, built: BuiltTransaction) -> None:
        """Store a built transaction. The same message again (same blockhash, same content) is the same row."""
        self._tx.change(
            f"INSERT INTO built_transactions ({_COLUMNS}) VALUES (:id, :account, :operation, :wallet, :kind,"  # noqa: S608 - columns are ours
            " :hash, :answer, :height, :built, :signature) ON CONFLICT (message_sha256) DO NOTHING",
            {
                "id": built.id,
                "account": built.account_id,
                "operation": built.operation,
                "wallet": built.wallet,
                "kind": built.kind,
                "hash": built.message_sha256,
                "answer": built.answer,
                "height": built.last_valid_block_height,
                "built": built.built_at,
                "signature": built.signature,
            },
        )

    def find_latest(self, account_id: AccountId, operation: str) -> BuiltTransaction | None:
        """The newest transaction built for a request."""
        return self._one(
            "account_id = :account AND operation = :operation ORDER BY built_at_ms DESC, id DESC LIMIT 1",
            {"account": account_id, "operation": operation},
        )

    def find_by_message(self, message_sha256: bytes) -> BuiltTransaction | None:
        """The transaction with exactly this message."""
        return self._one("message_sha256 = :hash", {"hash": message_sha256})

    def find_by_signature(self, signature: str) -> BuiltTransaction | None:
        """The transaction that was relayed under this signature."""
        return self._one("signature = :signature", {"signature": signature})

    def mark_relayed(self, transaction_id: TransactionId, signature: str) -> None:
        """Note the signature it was relayed under; the first one stays."""
        self._tx.change(
            "UPDATE built_transactions SET signature = :signature WHERE id = :id AND signature IS NULL",
            {"id": transaction_id, "signature": signature},
        )

    def forget_unsigned(self, built_before: Millis) -> int:
        """Delete old transactions that never came back signed; how many."""
        return self._tx.change(
            "DELETE FROM built_transactions WHERE signature IS NULL AND built_at_ms < :before",
            {"before": built_before},
        )

    def _one(self, where: str, parameters: dict[str, object]) -> BuiltTransaction | None:
        row = self._tx.row(f"SELECT {_COLUMNS} FROM built_transactions WHERE {where}", parameters)  # noqa: S608 - ours
        return BuiltTransaction(*row) if row else None
