"""Outputs of jobs and their packages; the time in which an attempt delivers them."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_outputs",
        sa.Column("allocation_id", sa.String, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("object", sa.String, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_job_outputs_at_ms", "job_outputs", ["at_ms"])
    op.create_table(
        "job_packages",
        sa.Column("allocation_id", sa.String, primary_key=True),
        sa.Column("object", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_job_packages_at_ms", "job_packages", ["at_ms"])
    op.add_column("attempts", sa.Column("uploading_at_ms", sa.BigInteger, nullable=True))
    op.add_column("allocations", sa.Column("uploading", sa.Boolean, nullable=False, server_default=sa.false()))
