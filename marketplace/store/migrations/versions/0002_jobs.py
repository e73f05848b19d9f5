"""Allocations, attempts, logs, contests, quotes, leases, nodes, books, outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CURSOR = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "allocations",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("wallet", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("opener", sa.String, nullable=False),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("escrow", sa.String, nullable=False, unique=True),
        sa.Column("terms_hash", sa.LargeBinary, nullable=False),
        sa.Column("spec", sa.String, nullable=False),
        sa.Column("submitted", sa.String, nullable=False),
        sa.Column("class_id", sa.String, nullable=False),
        sa.Column("regions", sa.String, nullable=False),
        sa.Column("gpu_count", sa.Integer, nullable=False),
        sa.Column("image", sa.String, nullable=False),
        sa.Column("egress", sa.Boolean, nullable=False),
        sa.Column("disk_gb", sa.Integer, nullable=False),
        sa.Column("priority", sa.String, nullable=False),
        sa.Column("ceiling_per_hour", sa.BigInteger, nullable=False),
        sa.Column("deposit", sa.BigInteger, nullable=False),
        sa.Column("max_ms", sa.BigInteger, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("stop_grace_ms", sa.BigInteger, nullable=False),
        sa.Column("queue_ms", sa.BigInteger, nullable=False),
        sa.Column("queue_until_ms", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.Integer, nullable=False),
        sa.Column("cancelling", sa.Boolean, nullable=False),
        sa.Column("cancelling_at_ms", sa.BigInteger, nullable=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("image_digest", sa.String, nullable=True),
        sa.Column("only_nodes", sa.String, nullable=False),
        sa.Column("excluded", sa.String, nullable=False),
        sa.Column("quote_id", sa.String, nullable=True),
        sa.Column("name", sa.String, nullable=True),
        sa.Column("labels", sa.String, nullable=False),
        sa.Column("progress", sa.Integer, nullable=False),
        sa.Column("funded_at_ms", sa.BigInteger, nullable=True),
        sa.Column("open_signature", sa.String, nullable=True),
        sa.Column("completed_at_ms", sa.BigInteger, nullable=True),
        sa.Column("error", sa.String, nullable=True),
        sa.Column("opening", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("account_id", "key", name="uq_allocations_account_key"),
        sa.UniqueConstraint("wallet", "opener", "nonce", name="uq_allocations_wallet_opener_nonce"),
    )
    op.create_index("ix_allocations_account_created", "allocations", ["account_id", "created_at_ms", "id"])
    op.create_index("ix_allocations_state", "allocations", ["state"])
    op.create_table(
        "attempts",
        sa.Column("allocation_id", sa.String, sa.ForeignKey("allocations.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("node_id", sa.String, nullable=False),
        sa.Column("node_key", sa.String, nullable=False),
        sa.Column("node_address", sa.String, nullable=False),
        sa.Column("lease_token", sa.String, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("price_per_hour", sa.BigInteger, nullable=False),
        sa.Column("fee_bps", sa.Integer, nullable=False),
        sa.Column("protocol_bps", sa.Integer, nullable=False),
        sa.Column("max_ms", sa.BigInteger, nullable=False),
        sa.Column("deposit", sa.BigInteger, nullable=False),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("claim_at_chain_ms", sa.BigInteger, nullable=False),
        sa.Column("claim_signature", sa.LargeBinary, nullable=False),
        sa.Column("claimed_at_ms", sa.BigInteger, nullable=False),
        sa.Column("assigned_at_ms", sa.BigInteger, nullable=True),
        sa.Column("assigned_chain_ms", sa.BigInteger, nullable=True),
        sa.Column("meter_at_ms", sa.BigInteger, nullable=True),
        sa.Column("started_chain_ms", sa.BigInteger, nullable=True),
        sa.Column("exited_at_ms", sa.BigInteger, nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger, nullable=True),
        sa.Column("reason", sa.Integer, nullable=False),
        sa.Column("exit_code", sa.Integer, nullable=True),
        sa.Column("detail", sa.String, nullable=True),
        sa.Column("report_sequence", sa.BigInteger, nullable=False),
        sa.Column("voucher", sa.LargeBinary, nullable=True),
        sa.Column("node_signature", sa.LargeBinary, nullable=True),
        sa.Column("meter_signature", sa.LargeBinary, nullable=True),
        sa.Column("voucher_sequence", sa.BigInteger, nullable=False),
        sa.Column("billed_ms", sa.BigInteger, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("paid", sa.BigInteger, nullable=False),
        sa.Column("operator_received", sa.BigInteger, nullable=False),
        sa.Column("settled_chain_ms", sa.BigInteger, nullable=True),
    )
    op.create_index("ix_attempts_node_phase", "attempts", ["node_id", "phase"])
    op.create_index("ix_attempts_phase", "attempts", ["phase"])
    op.create_table(
        "log_chunks",
        sa.Column("allocation_id", sa.String, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("first_seq", sa.BigInteger, primary_key=True),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("lines", sa.LargeBinary, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_log_chunks_at_ms", "log_chunks", ["at_ms"])
    op.create_table(
        "contests",
        sa.Column("escrow", sa.String, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("allocation_id", sa.String, nullable=False),
        sa.Column("due_chain_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
    )
    op.create_index("ix_contests_allocation_id", "contests", ["allocation_id"])
    op.create_index("ix_contests_state", "contests", ["state"])
    op.create_table(
        "quotes",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("token", sa.String, nullable=False),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_quotes_expires_at_ms", "quotes", ["expires_at_ms"])
    op.create_table(
        "leases",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("token", sa.String, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("node_key", sa.String, nullable=False, unique=True),
        sa.Column("address", sa.String, nullable=False, unique=True),
        sa.Column("operator", sa.String, nullable=False),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=True),
        sa.Column("class_id", sa.String, nullable=False),
        sa.Column("region", sa.String, nullable=False),
        sa.Column("data_center", sa.String, nullable=True),
        sa.Column("floor_per_hour", sa.BigInteger, nullable=False),
        sa.Column("low_floor_per_hour", sa.BigInteger, nullable=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("declared", sa.String, nullable=False),
        sa.Column("joined_at_ms", sa.BigInteger, nullable=False),
        sa.Column("last_seen_at_ms", sa.BigInteger, nullable=True),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("hardware", sa.String, nullable=True),
        sa.Column("capabilities", sa.String, nullable=True),
        sa.Column("version", sa.String, nullable=True),
        sa.Column("register_key", sa.String, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_nodes_class_id", "nodes", ["class_id"])
    op.create_index("ix_nodes_operator", "nodes", ["operator"])
    op.create_index("ix_nodes_status", "nodes", ["status"])
    op.create_table(
        "node_outages",
        sa.Column("node_id", sa.String, primary_key=True),
        sa.Column("started_at_ms", sa.BigInteger, primary_key=True),
        sa.Column("ended_at_ms", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "chain_events",
        sa.Column("signature", sa.String, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("slot", sa.BigInteger, nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("escrow", sa.String, nullable=True),
        sa.Column("attempt", sa.Integer, nullable=True),
        sa.Column("fields", sa.String, nullable=False),
        sa.Column("finalized", sa.Boolean, nullable=False),
    )
    op.create_index("ix_chain_events_escrow", "chain_events", ["escrow", "slot", "position"])
    op.create_table(
        "chain_escrows",
        sa.Column("escrow", sa.String, primary_key=True),
        sa.Column("wallet", sa.String, nullable=False),
        sa.Column("opener", sa.String, nullable=False),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("terms_hash", sa.LargeBinary, nullable=False),
        sa.Column("deposit", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("paid", sa.BigInteger, nullable=False),
        sa.Column("refunded", sa.BigInteger, nullable=False),
        sa.Column("operator", sa.BigInteger, nullable=False),
        sa.Column("stakers", sa.BigInteger, nullable=False),
        sa.Column("market", sa.BigInteger, nullable=False),
        sa.Column("protocol", sa.BigInteger, nullable=False),
        sa.Column("compensation", sa.BigInteger, nullable=False),
        sa.Column("opened_signature", sa.String, nullable=False),
        sa.Column("closed_at_ms", sa.BigInteger, nullable=True),
    )
    op.create_index("ix_chain_escrows_wallet_terms", "chain_escrows", ["wallet", "terms_hash"])
    op.create_table(
        "ledger",
        sa.Column("signature", sa.String, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("account", sa.String, primary_key=True),
        sa.Column("escrow", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_ledger_account", "ledger", ["account"])
    op.create_index("ix_ledger_escrow", "ledger", ["escrow"])
    op.create_table(
        "escrow_transactions",
        sa.Column("escrow", sa.String, primary_key=True),
        sa.Column("signature", sa.String, primary_key=True),
        sa.Column("slot", sa.BigInteger, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("signatures", sa.Integer, nullable=False),
        sa.Column("fee_lamports", sa.BigInteger, nullable=False),
        sa.Column("fee_payer", sa.String, nullable=False),
    )
    op.create_table(
        "chain_cursors",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("cursor", sa.String, nullable=False),
        sa.Column("slot", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("sequence", _CURSOR, primary_key=True, autoincrement=True),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("signature", sa.String, nullable=False, unique=True),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("last_valid_block_height", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("slot", sa.BigInteger, nullable=True),
        sa.Column("failure", sa.String, nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_operation", "outbox", ["operation", "sequence"])
    op.create_index("ix_outbox_state", "outbox", ["state"])


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; restore a backup instead")
