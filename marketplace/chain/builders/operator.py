"""Calls of an operator for its own node."""

from solders.pubkey import Pubkey

from marketplace.chain import instructions as calls
from marketplace.chain.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from marketplace.chain.builders.base import DeploymentCalls


class OperatorCalls(DeploymentCalls):
    """An operator's own: a node, its bond, its commission, its end."""

    def register_node(
        self, operator: Pubkey, node_key: Pubkey, market: Pubkey, class_id: bytes, bond: int, commission_bps: int
    ) -> calls.RegisterNode:
        """Payout and bond: the operator's associated token accounts, which must exist."""
        node = self.addresses.node(node_key)
        pool = self.addresses.pool(node)
        return calls.RegisterNode(
            calls.RegisterNodeAccounts(
                operator=operator,
                node_key=node_key,
                config=self.addresses.config(),
                market=market,
                class_account=self.addresses.hardware_class(class_id),
                node=node,
                pool=pool,
                position=self.addresses.position(pool, operator),
                pool_stake=self.addresses.pool_stake(pool),
                pool_fees=self.addresses.pool_fees(pool),
                payout=self.payment_account(operator),
                stake_source=self.stake_account(operator),
                payment_mint=self.deployment.payment_mint,
                stake_mint=self.deployment.stake_mint,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            ),
            calls.RegisterNodeArgs(bond=bond, commission_bps=commission_bps),
        )

    def bond(self, operator: Pubkey, node_key: Pubkey, amount: int) -> calls.Bond:
        node = self.addresses.node(node_key)
        pool = self.addresses.pool(node)
        return calls.Bond(
            calls.BondAccounts(
                operator=operator,
                config=self.addresses.config(),
                node=node,
                pool=pool,
                position=self.addresses.position(pool, operator),
                stake_source=self.stake_account(operator),
                pool_stake=self.addresses.pool_stake(pool),
                token_program=TOKEN_PROGRAM,
            ),
            calls.BondArgs(amount=amount),
        )

    def update_node(
        self, operator: Pubkey, node_key: Pubkey, market: Pubkey, class_id: bytes, payout: Pubkey
    ) -> calls.UpdateNode:
        node = self.addresses.node(node_key)
        return calls.UpdateNode(
            calls.UpdateNodeAccounts(
                operator=operator,
                config=self.addresses.config(),
                node=node,
                market=market,
                class_account=self.addresses.hardware_class(class_id),
                pool=self.addresses.pool(node),
                payout=payout,
            )
        )

    def withdraw_owed(self, operator: Pubkey, node_key: Pubkey, destination: Pubkey) -> calls.WithdrawOwed:
        """destination: any payment-token account that the operator names."""
        node = self.addresses.node(node_key)
        pool = self.addresses.pool(node)
        return calls.WithdrawOwed(
            calls.WithdrawOwedAccounts(
                operator=operator,
                node=node,
                pool=pool,
                pool_fees=self.addresses.pool_fees(pool),
                destination=destination,
                token_program=TOKEN_PROGRAM,
            )
        )

    def unbond_bond(
        self, operator: Pubkey, node_key: Pubkey, class_id: bytes, shares: int, ticket_index: int
    ) -> calls.UnbondBond:
        """ticket_index: `next_ticket` of the operator's position."""
        node = self.addresses.node(node_key)
        pool = self.addresses.pool(node)
        position = self.addresses.position(pool, operator)
        return calls.UnbondBond(
            calls.UnbondBondAccounts(
                operator=operator,
                config=self.addresses.config(),
                node=node,
                class_account=self.addresses.hardware_class(class_id),
                pool=pool,
                position=position,
                ticket=self.addresses.ticket(position, ticket_index),
                system_program=SYSTEM_PROGRAM,
            ),
            calls.UnbondBondArgs(shares=shares),
        )

    def set_commission(self, operator: Pubkey, node_key: Pubkey, commission_bps: int) -> calls.SetCommission:
        node = self.addresses.node(node_key)
        return calls.SetCommission(
            calls.SetCommissionAccounts(
                operator=operator, config=self.addresses.config(), node=node, pool=self.addresses.pool(node)
            ),
            calls.SetCommissionArgs(commission_bps=commission_bps),
        )

    def drain(self, operator: Pubkey, node_key: Pubkey, *, draining: bool) -> calls.Drain:
        return calls.Drain(
            calls.DrainAccounts(operator=operator, node=self.addresses.node(node_key)),
            calls.DrainArgs(draining=draining),
        )

    def retire(self, operator: Pubkey, node_key: Pubkey, market: Pubkey) -> calls.Retire:
        """market: the node's."""
        node = self.addresses.node(node_key)
        pool = self.addresses.pool(node)
        return calls.Retire(
            calls.RetireAccounts(
                operator=operator,
                config=self.addresses.config(),
                market=market,
                market_fees=self.addresses.market_fees(market),
                node=node,
                pool=pool,
                position=self.addresses.position(pool, operator),
                pool_stake=self.addresses.pool_stake(pool),
                pool_fees=self.addresses.pool_fees(pool),
                emission_vault=self.addresses.emission(),
                token_program=TOKEN_PROGRAM,
            )
        )
