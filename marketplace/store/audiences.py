"""Which accounts an event on chain concerns: those of wallets, of a pool's operator and of its stakers."""

from marketplace.domain.ids import AccountId
from marketplace.store.engine import Transaction


class Audiences:
    """Find accounts; whoever never logged in here has none."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def find_operator(self, pool: str) -> AccountId | None:
        """The account of the wallet that operates a pool's node."""
        row = self._tx.row(
            "SELECT w.account_id FROM stake_pools p JOIN wallets w ON w.address = p.operator WHERE p.pool = :pool",
            {"pool": pool},
        )
        return None if row is None else AccountId(row[0])

    def find_operator_of(self, node: str) -> AccountId | None:
        """The account of the wallet that operates the node at this address on chain."""
        row = self._tx.row(
            "SELECT w.account_id FROM stake_pools p JOIN wallets w ON w.address = p.operator WHERE p.node = :node",
            {"node": node},
        )
        return None if row is None else AccountId(row[0])

    def list_stakers(self, pool: str, limit: int) -> list[AccountId]:
        """Accounts of wallets that have, or had, a position in a pool."""
        rows = self._tx.rows(
            "SELECT DISTINCT w.account_id FROM stake_holders h JOIN wallets w ON w.address = h.owner"
            " WHERE h.pool = :pool ORDER BY w.account_id LIMIT :limit",
            {"pool": pool, "limit": limit},
        )
        return [AccountId(row[0]) for row in rows]
