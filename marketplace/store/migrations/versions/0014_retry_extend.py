"""Whether a later attempt gets the full time again."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("allocations", sa.Column("retry_extend", sa.Boolean, nullable=False, server_default=sa.false()))
