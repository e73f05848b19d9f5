"""Calls of a delegator: stake in, rewards out, stake out.

The owner pays the rent of position and tickets, so every refund of rent goes to the owner.
"""

from solders.pubkey import Pubkey

from marketplace.chain import instructions as calls
from marketplace.chain.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from marketplace.chain.builders.base import DeploymentCalls


class DelegatorCalls(DeploymentCalls):
    """A delegator's own. Claim and withdraw_ticket are the operator's too, for the position of its bond.

    node and pool are addresses of the Node and the Pool account.
    """

    def delegate(self, owner: Pubkey, node: Pubkey, amount: int) -> calls.Delegate:
        """From the owner's associated stake-token account."""
        pool = self.addresses.pool(node)
        return calls.Delegate(
            calls.DelegateAccounts(
                owner=owner,
                config=self.addresses.config(),
                node=node,
                pool=pool,
                position=self.addresses.position(pool, owner),
                stake_source=self.stake_account(owner),
                pool_stake=self.addresses.pool_stake(pool),
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            ),
            calls.DelegateArgs(amount=amount),
        )

    def claim(self, owner: Pubkey, pool: Pubkey) -> calls.Claim:
        """To the owner's associated token accounts; one of them must exist only where its kind is paid."""
        return calls.Claim(
            calls.ClaimAccounts(
                owner=owner,
                pool=pool,
                position=self.addresses.position(pool, owner),
                pool_fees=self.addresses.pool_fees(pool),
                pool_stake=self.addresses.pool_stake(pool),
                payment_destination=self.payment_account(owner),
                stake_destination=self.stake_account(owner),
                rent_payer=owner,
                token_program=TOKEN_PROGRAM,
            )
        )

    def unbond(self, owner: Pubkey, pool: Pubkey, shares: int, ticket_index: int) -> calls.Unbond:
        """ticket_index: `next_ticket` of the position."""
        position = self.addresses.position(pool, owner)
        return calls.Unbond(
            calls.UnbondAccounts(
                owner=owner,
                config=self.addresses.config(),
                pool=pool,
                position=position,
                ticket=self.addresses.ticket(position, ticket_index),
                system_program=SYSTEM_PROGRAM,
            ),
            calls.UnbondArgs(shares=shares),
        )

    def withdraw_ticket(self, owner: Pubkey, pool: Pubkey, ticket_index: int) -> calls.WithdrawTicket:
        """To the owner's associated stake-token account."""
        position = self.addresses.position(pool, owner)
        return calls.WithdrawTicket(
            calls.WithdrawTicketAccounts(
                owner=owner,
                pool=pool,
                position=position,
                ticket=self.addresses.ticket(position, ticket_index),
                pool_stake=self.addresses.pool_stake(pool),
                destination=self.stake_account(owner),
                rent_payer=owner,
                token_program=TOKEN_PROGRAM,
            )
        )
