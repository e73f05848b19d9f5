"""What capacity cost, and how long it was waited for, by day."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "price_days",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("class_id", sa.String, primary_key=True),
        sa.Column("region", sa.String, primary_key=True),
        sa.Column("floor", sa.BigInteger, nullable=True),
        sa.Column("lowest", sa.BigInteger, nullable=True),
        sa.Column("highest", sa.BigInteger, nullable=True),
        sa.Column("price_sum", sa.BigInteger, nullable=False),
        sa.Column("choices", sa.Integer, nullable=False),
        sa.Column("wait_sum_ms", sa.BigInteger, nullable=False),
        sa.Column("longest_wait_ms", sa.BigInteger, nullable=False),
    )
