"""When the chain stops billing a job whose wallet cancelled its escrow itself."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("allocations", sa.Column("stop_at_chain_ms", sa.BigInteger, nullable=True))
