"""What a delegator or an operator signs about stake: exactly what was asked for, to and from its own accounts.

Shares, ticket indexes and pools come out of a market's answers. A false one can't take anything: stake and rewards go
to the wallet's own accounts, and the program refuses a ticket at another address. But the wallet would act on
something else than it meant, so each is bound to what the caller names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey

from marketplace.chain.instructions import Distribute, ProgramInstruction
from marketplace.client.transaction_checks import CheckedTransaction, TransactionChecks


@dataclass(frozen=True, slots=True)
class TicketRef:
    """A ticket of the own position in a pool. index: as the chain numbers the position's tickets."""

    pool: Pubkey
    index: int


class StakeGuard(TransactionChecks):
    """Checks transactions about stake for one wallet at one market.

    node: address of the Node account; pool: of the Pool account.
    """

    # delegators

    def delegate(self, transaction: str, node: Pubkey, amount: int) -> CheckedTransaction:
        """Stake exactly `amount` on this node, from the own stake-token account."""
        return self._single(
            transaction,
            self._build.delegate(self._wallet, node, amount),
            f"stakes {self._stake_text(amount)} stake tokens on node {node}; "
            "they can be slashed if the node over-claims, and leave only after the unbonding time",
        )

    def claim(self, transaction: str, pools: Sequence[Pubkey]) -> CheckedTransaction:
        """Claim what the own positions in these pools have earned, to the own token accounts, created where absent."""
        inspected = self._inspect(transaction, may_create=self._mints)
        self._each(inspected, [self._build.claim(self._wallet, pool) for pool in pools])
        return self._checked(inspected, f"claims the rewards of {_listed('pool', pools)} to the own token accounts")

    def unbond(self, transaction: str, pool: Pubkey, shares: int, ticket_index: int) -> CheckedTransaction:
        """Take exactly these shares out of the pool, as this ticket of the own position."""
        return self._single(
            transaction,
            self._build.unbond(self._wallet, pool, shares, ticket_index),
            f"takes {shares} shares out of pool {pool} as ticket {ticket_index}; they earn nothing from now on, can "
            "be slashed until the unbonding time is over, and are then withdrawn by a second transaction",
        )

    def withdraw_tickets(self, transaction: str, tickets: Sequence[TicketRef]) -> CheckedTransaction:
        """Withdraw these tickets to the own stake-token account, created where absent."""
        inspected = self._inspect(transaction, may_create=[self._market.deployment.stake_mint])
        expected = [self._build.withdraw_ticket(self._wallet, ticket.pool, ticket.index) for ticket in tickets]
        self._each(inspected, expected)
        return self._checked(
            inspected,
            f"withdraws {_listed('ticket', [f'{t.index} of pool {t.pool}' for t in tickets])} "
            "to the own stake-token account",
        )

    def distribute(self, transaction: str, node: Pubkey, epoch: int) -> CheckedTransaction:
        """Draw this node's part of an epoch's emission, for all who have staked on it.

        Whose rent returns when that ends the epoch's account is read from the call: the program compares it.
        """
        inspected = self._inspect(transaction)
        call = self._only(self._calls(inspected, allowed=(Distribute,)), Distribute)
        self._compare(call, self._build.distribute(self._wallet, node, epoch, call.accounts.rent_payer))
        return self._checked(
            inspected, f"draws the part of node {node} in the emission of epoch {epoch}, for all who have staked on it"
        )

    # operators

    def bond(self, transaction: str, node_key: Pubkey, amount: int) -> CheckedTransaction:
        """Add exactly `amount` to the own bond."""
        return self._single(
            transaction,
            self._build.bond(self._wallet, node_key, amount),
            f"adds {self._stake_text(amount)} stake tokens to the bond of node {node_key}; "
            "renters of lost attempts are compensated out of it",
        )

    def unbond_bond(
        self, transaction: str, node_key: Pubkey, class_id: bytes, shares: int, ticket_index: int
    ) -> CheckedTransaction:
        """Take exactly these shares out of the own bond, as this ticket."""
        return self._single(
            transaction,
            self._build.unbond_bond(self._wallet, node_key, class_id, shares, ticket_index),
            f"takes {shares} shares out of the bond of node {node_key} as ticket {ticket_index}; "
            "they can be slashed until the unbonding time is over",
        )

    def set_commission(self, transaction: str, node_key: Pubkey, commission_bps: int) -> CheckedTransaction:
        """Announce exactly this commission."""
        percent = f"{commission_bps // 100}.{commission_bps % 100:02d} %"
        return self._single(
            transaction,
            self._build.set_commission(self._wallet, node_key, commission_bps),
            f"announces a commission of {percent} for node {node_key}, in effect after the delay",
        )

    def drain(self, transaction: str, node_key: Pubkey, *, draining: bool) -> CheckedTransaction:
        """Take no more work, or take it again."""
        return self._single(
            transaction,
            self._build.drain(self._wallet, node_key, draining=draining),
            f"node {node_key} {'takes no more work' if draining else 'takes work again'}",
        )

    def retire(self, transaction: str, node_key: Pubkey) -> CheckedTransaction:
        """Retire the node for good, and close it once nothing of it is owed."""
        return self._single(
            transaction,
            self._build.retire(self._wallet, node_key, self._market.market),
            f"retires node {node_key} for good; its accounts close and their rent returns once nobody has stake in it",
        )

    def _single(self, transaction: str, expected: ProgramInstruction, summary: str) -> CheckedTransaction:
        """Nothing but this one call."""
        inspected = self._inspect(transaction)
        self._compare(self._only(self._calls(inspected, allowed=(type(expected),)), type(expected)), expected)
        return self._checked(inspected, summary)

    @property
    def _mints(self) -> tuple[Pubkey, Pubkey]:
        return self._market.deployment.payment_mint, self._market.deployment.stake_mint


def _listed(noun: str, items: Sequence[object]) -> str:
    return f"{noun}{'s' if len(items) > 1 else ''} {', '.join(str(item) for item in items)}"
