"""Extensions, pauses, warnings, use of running work."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("auto_extend_ms", "auto_extended_ms"):
        op.add_column("allocations", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("allocations", sa.Column("warned", sa.Integer, nullable=False, server_default="0"))
    for name in ("extended_ms", "extended_deposit", "paused_ms"):
        op.add_column("attempts", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    for name in ("extended_at_ms", "paused_at_ms"):
        op.add_column("attempts", sa.Column(name, sa.BigInteger, nullable=True))
    op.create_table(
        "extensions",
        sa.Column("allocation_id", sa.String, sa.ForeignKey("allocations.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("key", sa.String, nullable=True),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("automatic", sa.Boolean, nullable=False),
        sa.Column("from_ms", sa.BigInteger, nullable=False),
        sa.Column("added_ms", sa.BigInteger, nullable=False),
        sa.Column("added_deposit", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_extensions_key", "extensions", ["allocation_id", "key"])
    op.create_table(
        "usage_samples",
        sa.Column("allocation_id", sa.String, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, primary_key=True),
        sa.Column("cpu_ms", sa.BigInteger, nullable=False),
        sa.Column("memory_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("sent_bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_usage_samples_at_ms", "usage_samples", ["at_ms"])
