"""Calls of a market's authority, and the sweep that anybody may make."""

from solders.pubkey import Pubkey

from marketplace.chain import instructions as calls
from marketplace.chain.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from marketplace.chain.builders.base import DeploymentCalls


class MarketCalls(DeploymentCalls):
    """A market's own: its keys, its fee, what it has earned, its nodes. The market's address is its authority's."""

    def register_market(
        self, payer: Pubkey, authority: Pubkey, matcher: Pubkey, meter: Pubkey, fee_bps: int
    ) -> calls.RegisterMarket:
        market = self.addresses.market(authority)
        return calls.RegisterMarket(
            calls.RegisterMarketAccounts(
                payer=payer,
                authority=authority,
                config=self.addresses.config(),
                market=market,
                market_fees=self.addresses.market_fees(market),
                payment_mint=self.deployment.payment_mint,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            ),
            calls.RegisterMarketArgs(matcher=matcher, meter=meter, fee_bps=fee_bps),
        )

    def rotate_keys(self, authority: Pubkey, matcher: Pubkey, meter: Pubkey) -> calls.RotateKeys:
        return calls.RotateKeys(
            calls.RotateKeysAccounts(authority=authority, market=self.addresses.market(authority)),
            calls.RotateKeysArgs(matcher=matcher, meter=meter),
        )

    def set_fee(self, authority: Pubkey, fee_bps: int) -> calls.SetFee:
        """fee_bps: the market's own fee, beside the protocol's; effective after the deployment's delay."""
        return calls.SetFee(
            calls.SetFeeAccounts(
                authority=authority, config=self.addresses.config(), market=self.addresses.market(authority)
            ),
            calls.SetFeeArgs(fee_bps=fee_bps),
        )

    def withdraw_fees(self, authority: Pubkey, *, destination: Pubkey | None = None) -> calls.WithdrawFees:
        """destination: the authority's associated payment-token account where not given."""
        market = self.addresses.market(authority)
        return calls.WithdrawFees(
            calls.WithdrawFeesAccounts(
                authority=authority,
                market=market,
                market_fees=self.addresses.market_fees(market),
                destination=destination or self.payment_account(authority),
                token_program=TOKEN_PROGRAM,
            )
        )

    def sweep_protocol_fees(self, submitter: Pubkey, market: Pubkey, protocol_token: Pubkey) -> calls.SweepProtocolFees:
        """protocol_token: the one that Config names."""
        return calls.SweepProtocolFees(
            calls.SweepProtocolFeesAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                market=market,
                market_fees=self.addresses.market_fees(market),
                protocol_token=protocol_token,
                token_program=TOKEN_PROGRAM,
            )
        )

    def suspend_node(self, authority: Pubkey, node: Pubkey, *, suspended: bool) -> calls.SuspendNode:
        """node: address of the Node account."""
        return calls.SuspendNode(
            calls.SuspendNodeAccounts(authority=authority, market=self.addresses.market(authority), node=node),
            calls.SuspendNodeArgs(suspended=suspended),
        )
