"""Fields of a job: classes that will do, least CUDA and reputation, retries, whose cost it is, a registry's login."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("tiers", sa.String, nullable=False, server_default="[]"),
        sa.Column("min_cuda", sa.Integer, nullable=False, server_default="0"),
        sa.Column("min_reputation_millionths", sa.Integer, nullable=False, server_default="0"),
        sa.Column("retry_on", sa.String, nullable=False, server_default="[8,9,10,18,19,20,21]"),
        sa.Column("retry_exit_codes", sa.String, nullable=False, server_default="[]"),
        sa.Column("retry_at_ms", sa.BigInteger, nullable=True),
        sa.Column("retry_of", sa.String, nullable=True),
        sa.Column("consumer_id", sa.String, nullable=True),
        sa.Column("registry_auth_id", sa.String, nullable=True),
    ):
        op.add_column("allocations", column)
    op.create_index("ix_allocations_registry_auth_id", "allocations", ["registry_auth_id"])
    op.add_column("attempts", sa.Column("class_id", sa.String, nullable=False, server_default=""))
    op.execute("UPDATE attempts SET class_id = (SELECT class_id FROM allocations WHERE id = attempts.allocation_id)")
