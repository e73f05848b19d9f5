"""Which meter countersigns an attempt: the chain fixes it at the assignment, and a rotation leaves it alone."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("meter_key", sa.String, nullable=True))
    connection = op.get_bind()
    assigned = connection.execute(
        sa.text(
            "SELECT a.id, e.attempt, e.fields FROM chain_events e JOIN allocations a ON a.escrow = e.escrow"
            " WHERE e.name = 'Assigned'"
        )
    ).all()
    for allocation, number, fields in assigned:
        connection.execute(
            sa.text("UPDATE attempts SET meter_key = :meter WHERE allocation_id = :allocation AND number = :number"),
            {"meter": json.loads(fields)["meter"], "allocation": allocation, "number": number},
        )
