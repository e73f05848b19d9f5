"""What renters spent and nodes earned: sums of the payments that the chain's events say were made."""

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.domain.ids import AccountId, NodeId
from marketplace.errors import NotFound
from marketplace.services.chain_port import ChainPort
from marketplace.services.node_registry import NodeRegistry, Presence
from marketplace.store.engine import Store, Transaction
from marketplace.store.settlements import Grouping, Settlements, StakeTaken, Sums


@dataclass(frozen=True, slots=True)
class Report:
    """A page of groups, how many there are, and the sums over all of them."""

    groups: Sequence[Sums]
    total: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Earnings:
    """What a node earned, and what its pool lost: base units of the payment and of the stake token."""

    report: Report
    taken: StakeTaken


class LedgerService:
    """Reads the sums."""

    def __init__(self, store: Store, registry: NodeRegistry, chain: ChainPort, currency: str) -> None:
        self._store = store
        self._registry = registry
        self._chain = chain
        self.currency = currency

    @property
    def decimals(self) -> int:
        """Of the payment token."""
        return self._chain.terms.decimals

    @property
    def stake_decimals(self) -> int:
        """Of the stake token."""
        return self._chain.terms.stake_decimals

    def node_name(self, address: str) -> str:
        """The id of a node by its account's address; the address where the node isn't known here."""
        presence = self._registry.find_by_address(address)
        return address if presence is None else presence.node.id

    async def usage(
        self, account_id: AccountId, start_ms: int, until_ms: int, grouping: Grouping, *, limit: int, offset: int
    ) -> Report:
        """What an account paid, settled amounts only. until_ms: exclusive."""
        return Report(
            *await self._store.read(
                lambda tx: Settlements(tx).of_account(
                    account_id, start_ms, until_ms, grouping, limit=limit, offset=offset
                )
            )
        )

    def node(self, node_id: NodeId) -> Presence:
        """Raises NotFound."""
        presence = self._registry.find(node_id)
        if presence is None:
            raise NotFound
        return presence

    async def earnings(
        self, address: str, start_ms: int, until_ms: int, grouping: Grouping, *, limit: int, offset: int
    ) -> Earnings:
        """What a node earned, settled amounts only. address: of its account. until_ms: exclusive."""

        def read(tx: Transaction) -> Earnings:
            books = Settlements(tx)
            report = books.of_node(address, start_ms, until_ms, grouping, limit=limit, offset=offset)
            return Earnings(Report(*report), books.stake_taken(address, start_ms, until_ms))

        return await self._store.read(read)
