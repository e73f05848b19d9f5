"""A delegator's own: stake in, rewards out, stake out."""

from dataclasses import dataclass
from typing import ClassVar

from solders.pubkey import Pubkey

from marketplace.chain.instructions.base import NO_ARGS, NoArgs, ProgramInstruction


@dataclass(frozen=True, slots=True)
class DelegateAccounts:
    """Accounts of delegate, in order."""

    owner: Pubkey
    config: Pubkey
    node: Pubkey
    pool: Pubkey
    position: Pubkey
    stake_source: Pubkey
    pool_stake: Pubkey
    token_program: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class DelegateArgs:
    """Arguments of delegate, in order."""

    amount: int


@dataclass(frozen=True, slots=True)
class Delegate(ProgramInstruction):
    """Stakes on a node."""

    name: ClassVar[str] = "delegate"
    ACCOUNTS: ClassVar[type[DelegateAccounts]] = DelegateAccounts
    ARGS: ClassVar[type[DelegateArgs]] = DelegateArgs
    accounts: DelegateAccounts
    args: DelegateArgs


@dataclass(frozen=True, slots=True)
class ClaimAccounts:
    """Accounts of claim, in order."""

    owner: Pubkey
    pool: Pubkey
    position: Pubkey
    pool_fees: Pubkey
    pool_stake: Pubkey
    payment_destination: Pubkey
    stake_destination: Pubkey
    rent_payer: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class Claim(ProgramInstruction):
    """Pays out a position's rewards."""

    name: ClassVar[str] = "claim"
    ACCOUNTS: ClassVar[type[ClaimAccounts]] = ClaimAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: ClaimAccounts
    args: NoArgs = NO_ARGS


@dataclass(frozen=True, slots=True)
class UnbondAccounts:
    """Accounts of unbond, in order."""

    owner: Pubkey
    config: Pubkey
    pool: Pubkey
    position: Pubkey
    ticket: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class UnbondArgs:
    """Arguments of unbond, in order."""

    shares: int


@dataclass(frozen=True, slots=True)
class Unbond(ProgramInstruction):
    """Takes shares out of a pool."""

    name: ClassVar[str] = "unbond"
    ACCOUNTS: ClassVar[type[UnbondAccounts]] = UnbondAccounts
    ARGS: ClassVar[type[UnbondArgs]] = UnbondArgs
    accounts: UnbondAccounts
    args: UnbondArgs


@dataclass(frozen=True, slots=True)
class WithdrawTicketAccounts:
    """Accounts of withdraw_ticket, in order."""

    owner: Pubkey
    pool: Pubkey
    position: Pubkey
    ticket: Pubkey
    pool_stake: Pubkey
    destination: Pubkey
    rent_payer: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class WithdrawTicket(ProgramInstruction):
    """Pays out an unbonded stake."""

    name: ClassVar[str] = "withdraw_ticket"
    ACCOUNTS: ClassVar[type[WithdrawTicketAccounts]] = WithdrawTicketAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: WithdrawTicketAccounts
    args: NoArgs = NO_ARGS
