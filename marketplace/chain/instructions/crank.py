"""What anybody may do to move an epoch of the emission on."""

from dataclasses import dataclass
from typing import ClassVar

from solders.pubkey import Pubkey

from marketplace.chain.instructions.base import NO_ARGS, NoArgs, ProgramInstruction


@dataclass(frozen=True, slots=True)
class RegisterWeightAccounts:
    """Accounts of register_weight, in order."""

    submitter: Pubkey
    config: Pubkey
    node: Pubkey
    pool: Pubkey
    epoch: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class RegisterWeightArgs:
    """Arguments of register_weight, in order."""

    epoch: int


@dataclass(frozen=True, slots=True)
class RegisterWeight(ProgramInstruction):
    """Registers a node's weight for an epoch's emission."""

    name: ClassVar[str] = "register_weight"
    ACCOUNTS: ClassVar[type[RegisterWeightAccounts]] = RegisterWeightAccounts
    ARGS: ClassVar[type[RegisterWeightArgs]] = RegisterWeightArgs
    accounts: RegisterWeightAccounts
    args: RegisterWeightArgs


@dataclass(frozen=True, slots=True)
class CloseEpochAccounts:
    """Accounts of close_epoch, in order."""

    submitter: Pubkey
    config: Pubkey
    epoch_account: Pubkey
    emission_vault: Pubkey
    rent_payer: Pubkey


@dataclass(frozen=True, slots=True)
class CloseEpochArgs:
    """Arguments of close_epoch, in order."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CloseEpoch(ProgramInstruction):
    """Fixes an epoch's emission, or ends its distribution."""

    name: ClassVar[str] = "close_epoch"
    ACCOUNTS: ClassVar[type[CloseEpochAccounts]] = CloseEpochAccounts
    ARGS: ClassVar[type[CloseEpochArgs]] = CloseEpochArgs
    accounts: CloseEpochAccounts
    args: CloseEpochArgs


@dataclass(frozen=True, slots=True)
class DistributeAccounts:
    """Accounts of distribute, in order."""

    submitter: Pubkey
    config: Pubkey
    node: Pubkey
    pool: Pubkey
    epoch_account: Pubkey
    emission_vault: Pubkey
    pool_stake: Pubkey
    rent_payer: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class Distribute(ProgramInstruction):
    """Pays a pool its part of an epoch's emission."""

    name: ClassVar[str] = "distribute"
    ACCOUNTS: ClassVar[type[DistributeAccounts]] = DistributeAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: DistributeAccounts
    args: NoArgs = NO_ARGS
