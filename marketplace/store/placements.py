"""Why each attempt went to its node, as it was recorded when the choice was made."""

import dataclasses

import orjson

from marketplace.domain.ids import AllocationId, NodeId
from marketplace.domain.placements import Drawn, Excluded, Placement
from marketplace.store.engine import Transaction


class Placements:
    """Put and list."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def put(self, allocation_id: AllocationId, attempt: int, placement: Placement) -> None:
        """Write it. An attempt that never came to the chain gives its number away: the later choice stands."""
        reasons = {
            # 128 bits: more than a JSON number holds.
            "draw": str(placement.draw),
            "candidates": [list(dataclasses.astuple(each)) for each in placement.candidates],
            "excluded": [list(dataclasses.astuple(each)) for each in placement.excluded],
            "counts": [list(each) for each in placement.counts],
        }
        self._tx.change(
            "INSERT INTO placements (allocation_id, attempt, node_id, at_ms, reasons)"
            " VALUES (:allocation, :attempt, :node, :at, :reasons) ON CONFLICT (allocation_id, attempt)"
            " DO UPDATE SET node_id = excluded.node_id, at_ms = excluded.at_ms, reasons = excluded.reasons",
            {
                "allocation": allocation_id,
                "attempt": attempt,
                "node": placement.node_id,
                "at": placement.at_ms,
                "reasons": orjson.dumps(reasons).decode(),
            },
        )

    def list_for(self, allocation_id: AllocationId) -> list[tuple[int, Placement]]:
        """Of each attempt, first to last, with its number."""
        rows = self._tx.rows(
            "SELECT attempt, node_id, at_ms, reasons FROM placements WHERE allocation_id = :allocation"
            " ORDER BY attempt",
            {"allocation": allocation_id},
        )
        return [(int(number), _placement(NodeId(node_id), at_ms, text)) for number, node_id, at_ms, text in rows]


def _placement(node_id: NodeId, at_ms: int, text: str) -> Placement:
    reasons = orjson.loads(text)
    return Placement(
        at_ms=at_ms,
        node_id=node_id,
        draw=int(reasons["draw"]),
        candidates=tuple(Drawn(*each) for each in reasons["candidates"]),
        excluded=tuple(Excluded(*each) for each in reasons["excluded"]),
        counts=tuple((why, number) for why, number in reasons["counts"]),
    )
