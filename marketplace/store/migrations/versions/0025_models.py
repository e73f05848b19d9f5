"""Models that admins gave to the market while it runs."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("folded", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("entry", sa.String, nullable=False),
        sa.Column("wallet", sa.String, nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger, nullable=False),
    )
