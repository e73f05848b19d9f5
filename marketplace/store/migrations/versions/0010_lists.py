"""What lists of jobs are read from: the shown word, labels, and indexes of funded and of ended jobs."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_STATUS = """UPDATE allocations SET status = CASE
    WHEN state IN ('released', 'failed') THEN CASE reason
        WHEN 1 THEN 'completed' WHEN 3 THEN 'cancelled' WHEN 4 THEN 'timed_out' WHEN 5 THEN 'expired' ELSE 'failed' END
    WHEN cancelling THEN 'cancelling'
    WHEN state IN ('requested', 'reserving') THEN 'queued'
    WHEN state IN ('provisioning', 'verifying') THEN 'assigned'
    ELSE 'running' END"""


def upgrade() -> None:
    op.add_column("allocations", sa.Column("status", sa.String, nullable=False, server_default=""))
    op.execute(_STATUS)
    op.drop_index("ix_allocations_account_created", "allocations")
    funded, ended = sa.text("funded_at_ms IS NOT NULL"), sa.text("completed_at_ms IS NOT NULL")
    for name, columns, where in (
        ("ix_allocations_listed", ["account_id", "created_at_ms", "id"], funded),
        ("ix_allocations_status", ["account_id", "status", "created_at_ms", "id"], funded),
        ("ix_allocations_ended", ["account_id", "completed_at_ms", "id"], ended),
    ):
        op.create_index(name, "allocations", columns, sqlite_where=where, postgresql_where=where)
    labels = op.create_table(
        "job_labels",
        sa.Column("allocation_id", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
        sa.Column("account_id", sa.String, nullable=False),
    )
    op.create_index("ix_job_labels_value", "job_labels", ["account_id", "name", "value", "allocation_id"])
    connection = op.get_bind()
    named = connection.execute(sa.text("SELECT id, account_id, labels FROM allocations WHERE labels <> '[]'")).all()
    rows = [
        {"allocation_id": allocation, "name": name, "value": value, "account_id": account}
        for allocation, account, text in named
        for name, value in json.loads(text)
    ]
    if rows:
        op.bulk_insert(labels, rows)
