"""What wallets were told of the use of their allowances; stakers of a pool are found by the pool."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spend_alerts",
        sa.Column("wallet", sa.String, primary_key=True),
        sa.Column("noted", sa.BigInteger, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
        sa.Column("told_today", sa.Integer, nullable=False),
        sa.Column("day", sa.BigInteger, nullable=False),
        sa.Column("last_deposit", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_stake_holders_pool", "stake_holders", ["pool"])
