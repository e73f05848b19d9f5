"""How many bytes of a log precede a chunk: the cap is checked by the last chunk, not by all."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("log_chunks", sa.Column("size_before", sa.BigInteger, nullable=True))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; restore a backup instead")
