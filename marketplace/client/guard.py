"""What a wallet signs: only a transaction that does what was asked for, and nothing besides.

What the request leaves open (a nonce, a lower deposit) is read from the market's instruction, bounded, and put into
ours before the two are compared. How they are compared: `transaction_checks`.
"""

from dataclasses import replace

from solders.pubkey import Pubkey

from marketplace.chain import builders
from marketplace.chain.builders import EscrowRef
from marketplace.chain.instructions import (
    CancelEscrow,
    ClaimCompensation,
    Deposit,
    ExtendEscrow,
    GrantAllowance,
    OpenEscrow,
    OpenVault,
    RevokeAllowance,
    Withdraw,
)
from marketplace.client.errors import TransactionRefused
from marketplace.client.stake_guard import StakeGuard
from marketplace.client.terms import AllowanceTerms, EscrowTerms
from marketplace.client.transaction_checks import MAX_PRIORITY_FEE_LAMPORTS, CheckedTransaction

__all__ = ["MAX_PRIORITY_FEE_LAMPORTS", "CheckedTransaction", "Guard"]


class Guard(StakeGuard):
    """Checks transactions for one wallet at one market: of its money here, of its stake in `StakeGuard`."""

    def deposit(self, transaction: str, amount: int) -> CheckedTransaction:
        """[open the own vault] and deposit exactly `amount` from the own token account."""
        inspected = self._inspect(transaction)
        calls = self._calls(inspected, allowed=(OpenVault, Deposit))
        self._compare(self._only(calls, Deposit), self._build.deposit(self._wallet, self._wallet, amount))
        return self._checked(inspected, f"deposits {self._text(amount)} into the own vault")

    def withdraw(self, transaction: str, amount: int | None) -> CheckedTransaction:
        """Withdraw `amount` (None: whatever isn't locked) to the own token account, created where absent."""
        inspected = self._inspect(transaction, may_create=[self._market.deployment.payment_mint])
        call = self._only(self._calls(inspected, allowed=(Withdraw,)), Withdraw)
        moved = call.args.amount if amount is None else amount
        self._compare(call, self._build.withdraw(self._wallet, moved))
        return self._checked(inspected, f"withdraws {self._text(moved)} to the own token account")

    def grant(self, transaction: str, terms: AllowanceTerms) -> CheckedTransaction:
        """Grant this market exactly these caps."""
        inspected = self._inspect(transaction)
        caps = builders.AllowanceTerms(
            escrow_cap=terms.per_job,
            day_cap=terms.per_day,
            total_cap=terms.total,
            max_price=terms.max_price_per_hour,
            expires_at_ms=terms.expires_at_ms(),
        )
        expected = self._build.grant_allowance(self._wallet, self._wallet, self._market.market, caps)
        self._compare(self._only(self._calls(inspected, allowed=(GrantAllowance,)), GrantAllowance), expected)
        return self._checked(
            inspected,
            f"lets market {self._market.market} spend {self._text(terms.per_job)} a job, "
            f"{self._text(terms.per_day)} a day, {self._text(terms.total)} in all, until {terms.expires_at_text()}",
        )

    def revoke(self, transaction: str) -> CheckedTransaction:
        """Take back this market's allowance."""
        inspected = self._inspect(transaction)
        expected = self._build.revoke_allowance(self._wallet, self._market.market)
        self._compare(self._only(self._calls(inspected, allowed=(RevokeAllowance,)), RevokeAllowance), expected)
        return self._checked(inspected, f"revokes the allowance of market {self._market.market}")

    def open_escrow(self, transaction: str, terms: EscrowTerms) -> CheckedTransaction:
        """[open the own vault] [deposit at most what the escrow locks] and open the escrow of these terms."""
        inspected = self._inspect(transaction)
        calls = self._calls(inspected, allowed=(OpenVault, Deposit, OpenEscrow))
        call = self._only(calls, OpenEscrow)
        offered = call.args
        self._at_most("its deposit", offered.deposit, terms.deposit)
        self._at_most("its ceiling price per hour", offered.ceiling_price, terms.ceiling_price)
        if not 1 <= offered.attempts_allowed <= terms.attempts:
            raise TransactionRefused(
                f"it allows {offered.attempts_allowed} attempts, at most {terms.attempts} were asked for"
            )
        reference = EscrowRef(
            wallet=self._wallet,
            opener=self._wallet,
            nonce=offered.nonce,
            market=self._market.market,
            rent_payer=self._wallet,
        )
        agreed = builders.EscrowTerms(
            nonce=offered.nonce,
            class_id=terms.class_id,
            terms_hash=terms.terms_hash,
            ceiling_price=offered.ceiling_price,
            deposit=offered.deposit,
            max_time_ms=terms.max_time_ms,
            attempts_allowed=offered.attempts_allowed,
        )
        self._compare(call, self._build.open_escrow(reference, self._wallet, agreed))
        escrow = self._build.escrow_address(reference)
        added = ""
        if any(isinstance(c, Deposit) for c in calls):
            gap = self._only(calls, Deposit)
            self._at_most("its deposit into the vault", gap.args.amount, offered.deposit)
            self._compare(gap, self._build.deposit(self._wallet, self._wallet, gap.args.amount))
            added = f", moving {self._text(gap.args.amount)} into the vault first"
        return self._checked(
            inspected, f"opens escrow {escrow} of {self._text(offered.deposit)}{added}", escrow=str(escrow)
        )

    def cancel_escrow(self, transaction: str, address: str, opener: Pubkey, nonce: int) -> CheckedTransaction:
        """Close exactly this escrow of the wallet's, which no node is assigned to; its deposit is free again.

        opener, nonce: what its address follows from. Whose rent returns is read from the call: the program compares it.
        """
        inspected = self._inspect(transaction)
        call = self._only(self._calls(inspected, allowed=(CancelEscrow,)), CancelEscrow)
        escrow = EscrowRef(
            wallet=self._wallet,
            opener=opener,
            nonce=nonce,
            market=self._market.market,
            rent_payer=call.accounts.rent_payer,
        )
        if str(self._build.escrow_address(escrow)) != address:
            raise TransactionRefused(f"the market's opener and nonce are not those of escrow {address}")
        self._compare(call, self._build.cancel_escrow(escrow, self._wallet))
        return self._checked(inspected, f"closes escrow {address}; its deposit is free in the vault again", address)

    def claim_compensation(self, transaction: str) -> CheckedTransaction:
        """Claim what lost attempts are compensated with, to the own stake-token account."""
        inspected = self._inspect(transaction, may_create=[self._market.deployment.stake_mint])
        expected = self._build.claim_compensation(self._wallet)
        self._compare(self._only(self._calls(inspected, allowed=(ClaimCompensation,)), ClaimCompensation), expected)
        return self._checked(inspected, "claims the compensations of lost attempts to the own token account")

    def extend_escrow(self, transaction: str, nonce: int, deposit: int, time_ms: int) -> CheckedTransaction:
        """[deposit at most what is added], and add exactly this time and at most this deposit to the wallet's escrow.

        nonce: of the escrow, which the wallet itself opened.
        """
        inspected = self._inspect(transaction)
        calls = self._calls(inspected, allowed=(Deposit, ExtendEscrow))
        call = self._only(calls, ExtendEscrow)
        self._at_most("its added deposit", call.args.added_deposit, deposit)
        deposit = call.args.added_deposit
        escrow = EscrowRef(
            wallet=self._wallet,
            opener=self._wallet,
            nonce=nonce,
            market=self._market.market,
            rent_payer=self._wallet,
        )
        expected = self._build.extend_escrow(escrow, self._wallet, deposit, time_ms, None)
        # Which node runs the attempt is the chain's to know: the program takes that one only, and gives it nothing.
        accounts = replace(expected.accounts, node=call.accounts.node, pool=call.accounts.pool)
        self._compare(call, replace(expected, accounts=accounts))
        added = ""
        if any(isinstance(c, Deposit) for c in calls):
            gap = self._only(calls, Deposit)
            self._at_most("its deposit into the vault", gap.args.amount, deposit)
            self._compare(gap, self._build.deposit(self._wallet, self._wallet, gap.args.amount))
            added = f", moving {self._text(gap.args.amount)} into the vault first"
        address = self._build.escrow_address(escrow)
        return self._checked(
            inspected, f"adds {self._text(deposit)} and {time_ms // 1_000} s to escrow {address}{added}", str(address)
        )
