"""Calls of a wallet for its own vault and allowances."""

from solders.pubkey import Pubkey

from marketplace.chain import instructions as calls
from marketplace.chain.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from marketplace.chain.builders.base import DeploymentCalls
from marketplace.chain.builders.refs import AllowanceTerms


class RenterCalls(DeploymentCalls):
    """A wallet's own: its vault, its allowances, its compensations."""

    def open_vault(self, payer: Pubkey, wallet: Pubkey) -> calls.OpenVault:
        vault = self.addresses.vault(wallet)
        return calls.OpenVault(
            calls.OpenVaultAccounts(
                payer=payer,
                wallet=wallet,
                config=self.addresses.config(),
                vault=vault,
                vault_tokens=self.addresses.vault_tokens(vault),
                payment_mint=self.deployment.payment_mint,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            )
        )

    def deposit(self, depositor: Pubkey, wallet: Pubkey, amount: int, *, source: Pubkey | None = None) -> calls.Deposit:
        """source: the depositor's associated payment-token account where not given."""
        vault = self.addresses.vault(wallet)
        return calls.Deposit(
            calls.DepositAccounts(
                depositor=depositor,
                vault=vault,
                source=source or self.payment_account(depositor),
                vault_tokens=self.addresses.vault_tokens(vault),
                token_program=TOKEN_PROGRAM,
            ),
            calls.DepositArgs(amount=amount),
        )

    def withdraw(self, wallet: Pubkey, amount: int, *, destination: Pubkey | None = None) -> calls.Withdraw:
        """destination: the wallet's associated payment-token account where not given."""
        vault = self.addresses.vault(wallet)
        return calls.Withdraw(
            calls.WithdrawAccounts(
                wallet=wallet,
                vault=vault,
                vault_tokens=self.addresses.vault_tokens(vault),
                destination=destination or self.payment_account(wallet),
                token_program=TOKEN_PROGRAM,
            ),
            calls.WithdrawArgs(amount=amount),
        )

    def claim_compensation(self, wallet: Pubkey) -> calls.ClaimCompensation:
        """To the wallet's associated stake-token account."""
        return calls.ClaimCompensation(
            calls.ClaimCompensationAccounts(
                wallet=wallet,
                config=self.addresses.config(),
                vault=self.addresses.vault(wallet),
                compensation_vault=self.addresses.compensation(),
                destination=self.stake_account(wallet),
                token_program=TOKEN_PROGRAM,
            )
        )

    def grant_allowance(
        self, payer: Pubkey, wallet: Pubkey, market: Pubkey, terms: AllowanceTerms
    ) -> calls.GrantAllowance:
        return calls.GrantAllowance(
            calls.GrantAllowanceAccounts(
                payer=payer,
                wallet=wallet,
                config=self.addresses.config(),
                market=market,
                allowance=self.addresses.allowance(wallet, market),
                system_program=SYSTEM_PROGRAM,
            ),
            calls.GrantAllowanceArgs(
                escrow_cap=terms.escrow_cap,
                day_cap=terms.day_cap,
                total_cap=terms.total_cap,
                max_price=terms.max_price,
                expires_at=terms.expires_at_ms,
            ),
        )

    def revoke_allowance(self, wallet: Pubkey, market: Pubkey) -> calls.RevokeAllowance:
        return calls.RevokeAllowance(
            calls.RevokeAllowanceAccounts(wallet=wallet, allowance=self.addresses.allowance(wallet, market))
        )
