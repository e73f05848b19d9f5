"""Stake: its events, pools, holders, and sums by epoch; which node a chain event names."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stake_events",
        sa.Column("signature", sa.String, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("slot", sa.BigInteger, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("at_epoch", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("pool", sa.String, nullable=True),
        sa.Column("owner", sa.String, nullable=True),
        sa.Column("ticket", sa.String, nullable=True),
        sa.Column("epoch", sa.BigInteger, nullable=True),
        sa.Column("stake", sa.BigInteger, nullable=False),
        sa.Column("payment", sa.BigInteger, nullable=False),
        sa.Column("commission", sa.BigInteger, nullable=False),
        sa.Column("shares", sa.String, nullable=False),
        sa.Column("bps", sa.Integer, nullable=True),
        sa.Column("due_ms", sa.BigInteger, nullable=True),
    )
    op.create_index("ix_stake_events_owner", "stake_events", ["owner", "slot", "position"])
    op.create_index("ix_stake_events_pool", "stake_events", ["pool", "at_epoch"])
    op.create_index("ix_stake_events_pool_kind", "stake_events", ["pool", "kind", "slot"])
    op.create_index("ix_stake_events_epoch", "stake_events", ["epoch", "kind"])
    op.create_table(
        "stake_pools",
        sa.Column("pool", sa.String, primary_key=True),
        sa.Column("node", sa.String, nullable=False),
        sa.Column("node_key", sa.String, nullable=False),
        sa.Column("operator", sa.String, nullable=False),
        sa.Column("market", sa.String, nullable=False),
        sa.Column("commission_bps", sa.Integer, nullable=True),
        sa.Column("signature", sa.String, nullable=False),
    )
    op.create_index("ix_stake_pools_node", "stake_pools", ["node"])
    op.create_index("ix_stake_pools_signature", "stake_pools", ["signature"])
    op.create_table(
        "stake_holders",
        sa.Column("owner", sa.String, primary_key=True),
        sa.Column("pool", sa.String, primary_key=True),
        sa.Column("since_slot", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pool_epochs",
        sa.Column("pool", sa.String, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("fees", sa.BigInteger, nullable=False),
        sa.Column("fees_commission", sa.BigInteger, nullable=False),
        sa.Column("emission", sa.BigInteger, nullable=False),
        sa.Column("emission_commission", sa.BigInteger, nullable=False),
        sa.Column("stake_change", sa.BigInteger, nullable=False),
        sa.Column("shares_change", sa.String, nullable=False),
    )
    op.create_index("ix_pool_epochs_epoch", "pool_epochs", ["epoch", "pool"])
    op.create_table(
        "stake_epochs",
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("registered", sa.Integer, nullable=False),
        sa.Column("total_weight", sa.String, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.Column("emission", sa.BigInteger, nullable=False),
        sa.Column("closed_at_ms", sa.BigInteger, nullable=True),
        sa.Column("served", sa.Integer, nullable=False),
        sa.Column("distributed", sa.BigInteger, nullable=False),
        sa.Column("commission", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("freed", sa.BigInteger, nullable=False),
    )
    op.add_column("chain_events", sa.Column("node", sa.String, nullable=True))
    op.create_index("ix_chain_events_node", "chain_events", ["node", "name", "slot"])
    op.execute("UPDATE chain_events SET node = json_extract(fields, '$.node')")
    # Events recorded before are read again, for what they say of stake; what is recorded already stays as it is.
    op.execute("DELETE FROM chain_cursors")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; restore a backup instead")
