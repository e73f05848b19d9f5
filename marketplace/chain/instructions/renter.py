"""A wallet's own: its vault, its allowances, its compensations."""

from dataclasses import dataclass
from typing import ClassVar

from solders.pubkey import Pubkey

from marketplace.chain.instructions.base import NO_ARGS, NoArgs, ProgramInstruction


@dataclass(frozen=True, slots=True)
class OpenVaultAccounts:
    """Accounts of open_vault, in order."""

    payer: Pubkey
    wallet: Pubkey
    config: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    payment_mint: Pubkey
    token_program: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class OpenVault(ProgramInstruction):
    """Makes a wallet's vault."""

    name: ClassVar[str] = "open_vault"
    ACCOUNTS: ClassVar[type[OpenVaultAccounts]] = OpenVaultAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: OpenVaultAccounts
    args: NoArgs = NO_ARGS


@dataclass(frozen=True, slots=True)
class DepositAccounts:
    """Accounts of deposit, in order."""

    depositor: Pubkey
    vault: Pubkey
    source: Pubkey
    vault_tokens: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class DepositArgs:
    """Arguments of deposit, in order."""

    amount: int


@dataclass(frozen=True, slots=True)
class Deposit(ProgramInstruction):
    """Moves tokens into a vault."""

    name: ClassVar[str] = "deposit"
    ACCOUNTS: ClassVar[type[DepositAccounts]] = DepositAccounts
    ARGS: ClassVar[type[DepositArgs]] = DepositArgs
    accounts: DepositAccounts
    args: DepositArgs


@dataclass(frozen=True, slots=True)
class WithdrawAccounts:
    """Accounts of withdraw, in order."""

    wallet: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    destination: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class WithdrawArgs:
    """Arguments of withdraw, in order."""

    amount: int


@dataclass(frozen=True, slots=True)
class Withdraw(ProgramInstruction):
    """Moves free tokens out of a vault."""

    name: ClassVar[str] = "withdraw"
    ACCOUNTS: ClassVar[type[WithdrawAccounts]] = WithdrawAccounts
    ARGS: ClassVar[type[WithdrawArgs]] = WithdrawArgs
    accounts: WithdrawAccounts
    args: WithdrawArgs


@dataclass(frozen=True, slots=True)
class ClaimCompensationAccounts:
    """Accounts of claim_compensation, in order."""

    wallet: Pubkey
    config: Pubkey
    vault: Pubkey
    compensation_vault: Pubkey
    destination: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class ClaimCompensation(ProgramInstruction):
    """Pays out noted compensations."""

    name: ClassVar[str] = "claim_compensation"
    ACCOUNTS: ClassVar[type[ClaimCompensationAccounts]] = ClaimCompensationAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: ClaimCompensationAccounts
    args: NoArgs = NO_ARGS


@dataclass(frozen=True, slots=True)
class GrantAllowanceAccounts:
    """Accounts of grant_allowance, in order."""

    payer: Pubkey
    wallet: Pubkey
    config: Pubkey
    market: Pubkey
    allowance: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class GrantAllowanceArgs:
    """Arguments of grant_allowance, in order."""

    escrow_cap: int
    day_cap: int
    total_cap: int
    max_price: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class GrantAllowance(ProgramInstruction):
    """Lets a market spend for the wallet, within caps."""

    name: ClassVar[str] = "grant_allowance"
    ACCOUNTS: ClassVar[type[GrantAllowanceAccounts]] = GrantAllowanceAccounts
    ARGS: ClassVar[type[GrantAllowanceArgs]] = GrantAllowanceArgs
    accounts: GrantAllowanceAccounts
    args: GrantAllowanceArgs


@dataclass(frozen=True, slots=True)
class RevokeAllowanceAccounts:
    """Accounts of revoke_allowance, in order."""

    wallet: Pubkey
    allowance: Pubkey


@dataclass(frozen=True, slots=True)
class RevokeAllowance(ProgramInstruction):
    """Ends an allowance at once."""

    name: ClassVar[str] = "revoke_allowance"
    ACCOUNTS: ClassVar[type[RevokeAllowanceAccounts]] = RevokeAllowanceAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: RevokeAllowanceAccounts
    args: NoArgs = NO_ARGS
