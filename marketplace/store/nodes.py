"""Registered nodes and their outages."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import insert, select, update

from marketplace.domain.ids import NodeId
from marketplace.domain.nodes import Node
from marketplace.store.engine import Transaction
from marketplace.store.records import from_row, to_values
from marketplace.store.tables.nodes import NodeRow

_NODES: Final = NodeRow.__table__  # type: ignore[attr-defined]  # sqlmodel adds it at run time


class Nodes:
    """Find, list, create, update."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, node: Node) -> None:
        """Raises UniqueViolation when the key is registered."""
        self._tx.execute(insert(_NODES), to_values(node))

    def update(self, node: Node) -> None:
        """Write all of it back."""
        self._tx.execute(update(_NODES).where(_NODES.c.id == node.id).values(**to_values(node)))

    def find(self, node_id: NodeId) -> Node | None:
        row = self._tx.execute(select(_NODES).where(_NODES.c.id == node_id)).mappings().first()
        return None if row is None else from_row(Node, row)

    def find_by_key(self, node_key: str) -> Node | None:
        row = self._tx.execute(select(_NODES).where(_NODES.c.node_key == node_key)).mappings().first()
        return None if row is None else from_row(Node, row)

    def list_all(self) -> list[Node]:
        """Every node ever registered, oldest first."""
        return [from_row(Node, row) for row in self._tx.execute(select(_NODES).order_by(_NODES.c.id)).mappings()]

    def write_seen(self, seen: Mapping[NodeId, int]) -> None:
        """When nodes were last heard of: one statement for all of a tick."""
        self._tx.change_many(
            "UPDATE nodes SET last_seen_at_ms = :at WHERE id = :id", [{"id": n, "at": at} for n, at in seen.items()]
        )

    def begin_outage(self, node_id: NodeId, at_ms: int) -> None:
        """Note that the node is away, unless that is noted already."""
        self._tx.change(
            "INSERT INTO node_outages (node_id, started_at_ms) SELECT CAST(:node AS VARCHAR), CAST(:at AS BIGINT)"
            " WHERE NOT EXISTS (SELECT 1 FROM node_outages WHERE node_id = :node AND ended_at_ms IS NULL)",
            {"node": node_id, "at": at_ms},
        )

    def end_outage(self, node_id: NodeId, at_ms: int) -> None:
        """Note that the node is back."""
        self._tx.change(
            "UPDATE node_outages SET ended_at_ms = :at WHERE node_id = :node AND ended_at_ms IS NULL",
            {"node": node_id, "at": at_ms},
        )

    def list_away(self) -> set[NodeId]:
        """Nodes whose outage lasts."""
        return {NodeId(row[0]) for row in self._tx.rows("SELECT node_id FROM node_outages WHERE ended_at_ms IS NULL")}

    def down_ms(self, since_ms: int, now_ms: int) -> dict[NodeId, int]:
        """Time away of each node between the two instants; nodes never away are left out."""
        rows = self._tx.rows(
            "SELECT node_id, started_at_ms, COALESCE(ended_at_ms, CAST(:now AS BIGINT)) FROM node_outages"
            " WHERE COALESCE(ended_at_ms, CAST(:now AS BIGINT)) > :since",
            {"since": since_ms, "now": now_ms},
        )
        away: dict[NodeId, int] = {}
        for node_id, start, end in rows:
            away[NodeId(node_id)] = away.get(NodeId(node_id), 0) + max(0, end - max(start, since_ms))
        return away
