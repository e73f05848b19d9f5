"""Accounts, logins, events, idempotency keys, rate counters, built transactions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_CURSOR = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "wallets",
        sa.Column("address", sa.String, primary_key=True),
        sa.Column("account_id", sa.String, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("is_primary", sa.Boolean, nullable=False),
        sa.Column("linked_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_wallets_account_id", "wallets", ["account_id"])
    op.create_table(
        "challenges",
        sa.Column("nonce", sa.String, primary_key=True),
        sa.Column("wallet", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("client_address", sa.String, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("issued_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_challenges_wallet_issued", "challenges", ["wallet", "issued_at_ms"])
    op.create_index("ix_challenges_expires_at_ms", "challenges", ["expires_at_ms"])
    op.create_table(
        "logins",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("wallet", sa.String, nullable=False),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_at_ms", sa.BigInteger, nullable=True),
    )
    op.create_index("ix_logins_subject", "logins", ["subject"])
    op.create_index("ix_logins_expires_at_ms", "logins", ["expires_at_ms"])
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column("login_id", sa.String, sa.ForeignKey("logins.id"), nullable=False),
        sa.Column("issued_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("used_at_ms", sa.BigInteger, nullable=True),
        sa.Column("retry_key_hash", sa.LargeBinary, nullable=True),
    )
    op.create_index("ix_refresh_tokens_login_id", "refresh_tokens", ["login_id"])
    op.create_index("ix_refresh_tokens_expires_at_ms", "refresh_tokens", ["expires_at_ms"])
    op.create_table(
        "events",
        sa.Column("cursor", _CURSOR, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("resource", sa.String, nullable=False),
        sa.Column("data", sa.String, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_account_cursor", "events", ["account", "cursor"])
    op.create_index("ix_events_resource_cursor", "events", ["resource", "cursor"])
    op.create_index("ix_events_at_ms", "events", ["at_ms"])
    op.create_table(
        "idempotency_keys",
        sa.Column("subject", sa.String, primary_key=True),
        sa.Column("route", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("body_sha256", sa.LargeBinary, nullable=False),
        sa.Column("bound_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer, nullable=True),
        sa.Column("headers", sa.String, nullable=True),
        sa.Column("body", sa.LargeBinary, nullable=True),
        sa.Column("secrets_until_ms", sa.BigInteger, nullable=True),
    )
    op.create_index("ix_idempotency_keys_expires_at_ms", "idempotency_keys", ["expires_at_ms"])
    op.create_table(
        "rate_counters",
        sa.Column("subject", sa.String, primary_key=True),
        sa.Column("window_s", sa.Integer, primary_key=True),
        sa.Column("window_start_s", sa.BigInteger, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("window_end_s", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_rate_counters_window_end_s", "rate_counters", ["window_end_s"])
    op.create_table(
        "built_transactions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("wallet", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("message_sha256", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("answer", sa.String, nullable=False),
        sa.Column("last_valid_block_height", sa.BigInteger, nullable=False),
        sa.Column("built_at_ms", sa.BigInteger, nullable=False),
        sa.Column("signature", sa.String, nullable=True, unique=True),
    )
    op.create_index("ix_built_transactions_operation", "built_transactions", ["account_id", "operation", "built_at_ms"])
    op.create_index("ix_built_transactions_built_at_ms", "built_transactions", ["built_at_ms"])


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; restore a backup instead")
