"""Webhooks, their secrets, and the queue of what is to be delivered to them."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=True),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("patterns", sa.String, nullable=False),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("secret_owner", sa.String, nullable=False),
        sa.Column("since_cursor", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.Column("delivered_at_ms", sa.BigInteger, nullable=True),
        sa.Column("disabled_reason", sa.String, nullable=True),
    )
    op.create_index("ix_webhooks_account", "webhooks", ["account"])
    op.create_index("ix_webhooks_job_id", "webhooks", ["job_id"])
    op.create_table(
        "webhook_secrets",
        sa.Column("owner", sa.String, primary_key=True),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("old_key_id", sa.String, nullable=True),
        sa.Column("old_sealed", sa.LargeBinary, nullable=True),
        sa.Column("old_until_ms", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("webhook_id", sa.String, primary_key=True),
        sa.Column("cursor", sa.BigInteger, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at_ms", sa.BigInteger, nullable=True),
        sa.Column("token", sa.String, nullable=True),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("first_at_ms", sa.BigInteger, nullable=True),
        sa.Column("last_at_ms", sa.BigInteger, nullable=True),
        sa.Column("last_status", sa.Integer, nullable=True),
        sa.Column("last_error", sa.String, nullable=True),
    )
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["due_at_ms", "webhook_id", "cursor"])
    op.create_index("ix_webhook_deliveries_created", "webhook_deliveries", ["created_at_ms"])
