"""The administration of a deployment."""

from dataclasses import dataclass
from typing import ClassVar

from solders.pubkey import Pubkey

from marketplace.chain.accounts import Params
from marketplace.chain.instructions.base import NO_ARGS, NoArgs, ProgramInstruction


@dataclass(frozen=True, slots=True)
class InitializeAccounts:
    """Accounts of initialize, in order."""

    payer: Pubkey
    authority: Pubkey
    config: Pubkey
    payment_mint: Pubkey
    stake_mint: Pubkey
    protocol_token: Pubkey
    compensation_vault: Pubkey
    emission_vault: Pubkey
    program: Pubkey
    program_data: Pubkey | None
    token_program: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class InitializeArgs:
    """Arguments of initialize, in order."""

    genesis_hash: bytes
    params: Params
    epoch_length: int
    first_emission: int


@dataclass(frozen=True, slots=True)
class Initialize(ProgramInstruction):
    """Makes the deployment's Config and its two token accounts."""

    name: ClassVar[str] = "initialize"
    ACCOUNTS: ClassVar[type[InitializeAccounts]] = InitializeAccounts
    ARGS: ClassVar[type[InitializeArgs]] = InitializeArgs
    accounts: InitializeAccounts
    args: InitializeArgs


@dataclass(frozen=True, slots=True)
class SetClassAccounts:
    """Accounts of set_class, in order."""

    payer: Pubkey
    admin: Pubkey
    config: Pubkey
    class_account: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class SetClassArgs:
    """Arguments of set_class, in order."""

    class_id: bytes
    minimum_bond: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class SetClass(ProgramInstruction):
    """Makes or changes a class of machines."""

    name: ClassVar[str] = "set_class"
    ACCOUNTS: ClassVar[type[SetClassAccounts]] = SetClassAccounts
    ARGS: ClassVar[type[SetClassArgs]] = SetClassArgs
    accounts: SetClassAccounts
    args: SetClassArgs


@dataclass(frozen=True, slots=True)
class SetParamsAccounts:
    """Accounts of set_params, in order."""

    admin: Pubkey
    config: Pubkey


@dataclass(frozen=True, slots=True)
class SetParamsArgs:
    """Arguments of set_params, in order."""

    params: Params


@dataclass(frozen=True, slots=True)
class SetParams(ProgramInstruction):
    """Sets the deployment's numbers, within bounds."""

    name: ClassVar[str] = "set_params"
    ACCOUNTS: ClassVar[type[SetParamsAccounts]] = SetParamsAccounts
    ARGS: ClassVar[type[SetParamsArgs]] = SetParamsArgs
    accounts: SetParamsAccounts
    args: SetParamsArgs


@dataclass(frozen=True, slots=True)
class SetPauseAccounts:
    """Accounts of set_pause, in order."""

    admin: Pubkey
    config: Pubkey


@dataclass(frozen=True, slots=True)
class SetPauseArgs:
    """Arguments of set_pause, in order."""

    paused: int


@dataclass(frozen=True, slots=True)
class SetPause(ProgramInstruction):
    """Closes or opens ways in."""

    name: ClassVar[str] = "set_pause"
    ACCOUNTS: ClassVar[type[SetPauseAccounts]] = SetPauseAccounts
    ARGS: ClassVar[type[SetPauseArgs]] = SetPauseArgs
    accounts: SetPauseAccounts
    args: SetPauseArgs


@dataclass(frozen=True, slots=True)
class ProposeAdminAccounts:
    """Accounts of propose_admin, in order."""

    admin: Pubkey
    config: Pubkey


@dataclass(frozen=True, slots=True)
class ProposeAdminArgs:
    """Arguments of propose_admin, in order."""

    candidate: Pubkey


@dataclass(frozen=True, slots=True)
class ProposeAdmin(ProgramInstruction):
    """Names who may take over the administration."""

    name: ClassVar[str] = "propose_admin"
    ACCOUNTS: ClassVar[type[ProposeAdminAccounts]] = ProposeAdminAccounts
    ARGS: ClassVar[type[ProposeAdminArgs]] = ProposeAdminArgs
    accounts: ProposeAdminAccounts
    args: ProposeAdminArgs


@dataclass(frozen=True, slots=True)
class AcceptAdminAccounts:
    """Accounts of accept_admin, in order."""

    candidate: Pubkey
    config: Pubkey


@dataclass(frozen=True, slots=True)
class AcceptAdmin(ProgramInstruction):
    """Takes over the administration."""

    name: ClassVar[str] = "accept_admin"
    ACCOUNTS: ClassVar[type[AcceptAdminAccounts]] = AcceptAdminAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: AcceptAdminAccounts
    args: NoArgs = NO_ARGS
