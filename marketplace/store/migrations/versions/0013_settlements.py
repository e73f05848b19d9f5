"""Why each attempt went to its node; and what was paid, in typed columns."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "placements",
        sa.Column("allocation_id", sa.String, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("node_id", sa.String, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("reasons", sa.String, nullable=False),
    )
    settlements = op.create_table(
        "settlements",
        sa.Column("signature", sa.String, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("escrow", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("node", sa.String, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("at_ms", "billed_ms", "paid", "operator", "stakers", "market", "protocol")
        ),
        sa.Column("account_id", sa.String, nullable=True),
        sa.Column("allocation_id", sa.String, nullable=True),
        sa.Column("class_id", sa.String, nullable=True),
        sa.Column("gpu_count", sa.Integer, nullable=True),
        sa.Column("consumer_id", sa.String, nullable=True),
    )
    op.create_index("ix_settlements_account", "settlements", ["account_id", "at_ms"])
    op.create_index("ix_settlements_node", "settlements", ["node", "at_ms"])
    op.create_index("ix_settlements_attempt", "settlements", ["escrow", "attempt"])
    known = op.get_bind().execute(
        sa.text(
            "SELECT e.signature, e.position, e.escrow, e.attempt, e.seen_at_ms, e.fields, a.account_id, a.id,"
            " coalesce(nullif(t.class_id, ''), a.class_id), a.gpu_count, a.consumer_id"
            " FROM chain_events e LEFT JOIN allocations a ON a.escrow = e.escrow"
            " LEFT JOIN attempts t ON t.allocation_id = a.id AND t.number = e.attempt"
            " WHERE e.name = 'Settled' ORDER BY e.slot, e.signature, e.position"
        )
    )
    billed: dict[tuple[str, int], int] = {}
    rows = []
    for signature, position, escrow, attempt, at_ms, text, account, allocation, class_id, count, consumer in known:
        fields = json.loads(text)
        before = billed.get((escrow, attempt), 0)
        billed[escrow, attempt] = max(before, fields["billed"])
        amounts = {name: fields[name] for name in ("paid", "operator", "stakers", "market", "protocol")}
        rows.append(
            {
                "signature": signature, "position": position, "escrow": escrow, "attempt": attempt, "at_ms": at_ms,
                "node": fields["node"], "billed_ms": billed[escrow, attempt] - before, "account_id": account,
                "allocation_id": allocation, "class_id": class_id, "gpu_count": count, "consumer_id": consumer,
                **amounts,
            }
        )  # fmt: skip
    if rows:
        op.bulk_insert(settlements, rows)
