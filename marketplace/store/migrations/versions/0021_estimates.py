"""How long a job was expected to run, and the index that the last runs of an image are read from."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("allocations", sa.Column("expected_ms", sa.BigInteger, nullable=True))
    completed = sa.text("status = 'completed'")
    op.create_index(
        "ix_allocations_runs",
        "allocations",
        ["account_id", "image", "created_at_ms"],
        sqlite_where=completed,
        postgresql_where=completed,
    )
