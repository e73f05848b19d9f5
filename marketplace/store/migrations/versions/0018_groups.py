"""Groups of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_groups",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("wallet", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=True),
        sa.Column("create_key", sa.String, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.String, nullable=True),
        sa.Column("job", sa.String, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ready_at_ms", sa.BigInteger, nullable=True),
        sa.Column("cancelled_at_ms", sa.BigInteger, nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger, nullable=True),
        sa.Column("over", sa.Boolean, nullable=False),
        sa.Column("blocked", sa.String, nullable=True),
        sa.UniqueConstraint("account_id", "create_key", name="uq_job_groups_account_create_key"),
    )
    op.create_index("ix_job_groups_account_created", "job_groups", ["account_id", "created_at_ms", "id"])
    op.create_index("ix_job_groups_over", "job_groups", ["over"])
    op.create_table(
        "job_group_members",
        sa.Column("group_id", sa.String, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("allocation_id", sa.String, nullable=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("error", sa.String, nullable=True),
        sa.Column("input", sa.String, nullable=True),
    )
    op.create_table(
        "job_group_after",
        sa.Column("group_id", sa.String, primary_key=True),
        sa.Column("after", sa.String, primary_key=True),
    )
