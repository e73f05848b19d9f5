"""What a job makes of its GPUs, where its node measures it."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("usage_samples", sa.Column("gpu_percent", sa.Integer, nullable=True))
    op.add_column("usage_samples", sa.Column("gpu_memory_bytes", sa.BigInteger, nullable=True))
