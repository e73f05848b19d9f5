"""Counts of an account's jobs by their word, and an index from which the history's totals are read alone."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_ENDED = "completed_at_ms IS NOT NULL AND funded_at_ms IS NOT NULL"


def upgrade() -> None:
    op.create_table(
        "job_counts",
        sa.Column("account_id", sa.String, primary_key=True),
        sa.Column("status", sa.String, primary_key=True),
        sa.Column("jobs", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO job_counts (account_id, status, jobs) SELECT account_id, status, count(*) FROM allocations"
        " WHERE funded_at_ms IS NOT NULL GROUP BY account_id, status"
    )
    op.drop_index("ix_allocations_ended", "allocations")
    op.create_index(
        "ix_allocations_ended",
        "allocations",
        ["account_id", "completed_at_ms", "id", "status", "funded_at_ms"],
        sqlite_where=sa.text(_ENDED),
        postgresql_where=sa.text(_ENDED),
    )
