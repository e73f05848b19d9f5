"""Positions in the feed: what was deleted for its age, what webhooks have been given."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feed_marks",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("cursor", sa.BigInteger, nullable=False),
    )
