"""A node's stake as its operator sees it: read from the chain, and what follows from the numbers."""

from dataclasses import dataclass

from solders.pubkey import Pubkey

from marketplace.chain.accounts import (
    ConfigAccount,
    NodeAccount,
    NodeStatus,
    PoolAccount,
    PositionAccount,
    TicketAccount,
)
from marketplace.chain.reader import Located
from marketplace.domain.quantities import Bps, Millis, Shares, Stake
from marketplace.domain.staking import Bucket, in_force, pending_reward


@dataclass(frozen=True, slots=True)
class Standing:
    """A node's stake at one moment, as its operator sees it.

    minimum_bond: the class's. wallet_stake, wallet_payment: of the operator's own token accounts, None where there
    is no account.
    """

    config: ConfigAccount
    address: Pubkey
    node: NodeAccount
    pool_address: Pubkey
    pool: PoolAccount
    position: PositionAccount
    tickets: tuple[Located[TicketAccount], ...]
    minimum_bond: int
    wallet_stake: int | None
    wallet_payment: int | None
    now_ms: int

    @property
    def status(self) -> NodeStatus:
        return NodeStatus(self.node.status)

    @property
    def active(self) -> Bucket:
        return Bucket(Stake(self.pool.active_stake), Shares(self.pool.active_shares))

    @property
    def unbonding(self) -> Bucket:
        return Bucket(Stake(self.pool.unbonding_stake), Shares(self.pool.unbonding_shares))

    @property
    def bond(self) -> int:
        """What the operator's shares are worth, in base units of the stake token."""
        return self.active.stake_for_floor(Shares(self.position.shares))

    @property
    def bond_needed(self) -> int:
        """What must stay bonded while the node is active or has attempts."""
        return self.minimum_bond + self.node.held

    @property
    def bound(self) -> bool:
        """Whether `bond_needed` binds now."""
        return self.status is NodeStatus.ACTIVE or self.node.attempts > 0

    @property
    def delegators(self) -> int:
        """Positions of others."""
        return max(self.pool.positions - 1, 0)

    @property
    def pending_payment(self) -> int:
        """Fee rewards and commission that `claim` would pay now."""
        own = pending_reward(
            Shares(self.position.shares), self.pool.fees, self.position.fees_paid, self.position.fees_earned
        )
        return own + self.pool.commission_fees

    @property
    def pending_stake(self) -> int:
        """Emission and commission on it that `claim` would pay now."""
        own = pending_reward(
            Shares(self.position.shares), self.pool.emission, self.position.emission_paid, self.position.emission_earned
        )
        return own + self.pool.commission_emission

    @property
    def commission_bps(self) -> int:
        """The commission in force now."""
        return in_force(
            Bps(self.pool.commission_bps),
            Bps(self.pool.pending_commission_bps),
            Millis(self.pool.pending_commission_at),
            Millis(self.now_ms),
        )

    def ready_tickets(self) -> tuple[Located[TicketAccount], ...]:
        return tuple(ticket for ticket in self.tickets if ticket.account.unlock_at <= self.now_ms)

    def ticket_value(self, ticket: TicketAccount) -> int:
        """What a ticket would pay now."""
        return self.unbonding.stake_for_floor(Shares(ticket.shares))
