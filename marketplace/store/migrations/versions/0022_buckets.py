"""Logins at storage services, and deliveries of outputs to buckets there."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "credentials",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("region", sa.String, nullable=False),
        sa.Column("access_key", sa.String, nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("account_id", "name", name="uq_credentials_account_name"),
    )
    op.create_table(
        "bucket_deliveries",
        sa.Column("allocation_id", sa.String, primary_key=True),
        sa.Column("credential_id", sa.String, nullable=False),
        sa.Column("bucket", sa.String, nullable=False),
        sa.Column("prefix", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("files", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("started_at_ms", sa.BigInteger, nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger, nullable=True),
        sa.Column("error", sa.String, nullable=True),
    )
    op.create_index("ix_bucket_deliveries_credential_id", "bucket_deliveries", ["credential_id"])
    op.create_index("ix_bucket_deliveries_state", "bucket_deliveries", ["state"])
    op.create_table(
        "delivered_files",
        sa.Column("allocation_id", sa.String, primary_key=True),
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("upload_id", sa.String, nullable=True),
        sa.Column("delivered_at_ms", sa.BigInteger, nullable=True),
    )
