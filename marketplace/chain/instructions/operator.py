"""An operator's own: a node, its bond, its commission, its end."""

from dataclasses import dataclass
from typing import ClassVar

from solders.pubkey import Pubkey

from marketplace.chain.instructions.base import NO_ARGS, NoArgs, ProgramInstruction


@dataclass(frozen=True, slots=True)
class RegisterNodeAccounts:
    """Accounts of register_node, in order."""

    operator: Pubkey
    node_key: Pubkey
    config: Pubkey
    market: Pubkey
    class_account: Pubkey
    node: Pubkey
    pool: Pubkey
    position: Pubkey
    pool_stake: Pubkey
    pool_fees: Pubkey
    payout: Pubkey
    stake_source: Pubkey
    payment_mint: Pubkey
    stake_mint: Pubkey
    token_program: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class RegisterNodeArgs:
    """Arguments of register_node, in order."""

    bond: int
    commission_bps: int


@dataclass(frozen=True, slots=True)
class RegisterNode(ProgramInstruction):
    """Makes a node with its pool and bond."""

    name: ClassVar[str] = "register_node"
    ACCOUNTS: ClassVar[type[RegisterNodeAccounts]] = RegisterNodeAccounts
    ARGS: ClassVar[type[RegisterNodeArgs]] = RegisterNodeArgs
    accounts: RegisterNodeAccounts
    args: RegisterNodeArgs


@dataclass(frozen=True, slots=True)
class BondAccounts:
    """Accounts of bond, in order."""

    operator: Pubkey
    config: Pubkey
    node: Pubkey
    pool: Pubkey
    position: Pubkey
    stake_source: Pubkey
    pool_stake: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class BondArgs:
    """Arguments of bond, in order."""

    amount: int


@dataclass(frozen=True, slots=True)
class Bond(ProgramInstruction):
    """Adds to the operator's own stake."""

    name: ClassVar[str] = "bond"
    ACCOUNTS: ClassVar[type[BondAccounts]] = BondAccounts
    ARGS: ClassVar[type[BondArgs]] = BondArgs
    accounts: BondAccounts
    args: BondArgs


@dataclass(frozen=True, slots=True)
class UpdateNodeAccounts:
    """Accounts of update_node, in order."""

    operator: Pubkey
    config: Pubkey
    node: Pubkey
    market: Pubkey
    class_account: Pubkey
    pool: Pubkey
    payout: Pubkey


@dataclass(frozen=True, slots=True)
class UpdateNode(ProgramInstruction):
    """Changes a node's market, class or payout account to the ones passed."""

    name: ClassVar[str] = "update_node"
    ACCOUNTS: ClassVar[type[UpdateNodeAccounts]] = UpdateNodeAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: UpdateNodeAccounts
    args: NoArgs = NO_ARGS


@dataclass(frozen=True, slots=True)
class WithdrawOwedAccounts:
    """Accounts of withdraw_owed, in order."""

    operator: Pubkey
    node: Pubkey
    pool: Pubkey
    pool_fees: Pubkey
    destination: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class WithdrawOwed(ProgramInstruction):
    """Pays out what a node is owed."""

    name: ClassVar[str] = "withdraw_owed"
    ACCOUNTS: ClassVar[type[WithdrawOwedAccounts]] = WithdrawOwedAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: WithdrawOwedAccounts
    args: NoArgs = NO_ARGS


@dataclass(frozen=True, slots=True)
class UnbondBondAccounts:
    """Accounts of unbond_bond, in order."""

    operator: Pubkey
    config: Pubkey
    node: Pubkey
    class_account: Pubkey
    pool: Pubkey
    position: Pubkey
    ticket: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class UnbondBondArgs:
    """Arguments of unbond_bond, in order."""

    shares: int


@dataclass(frozen=True, slots=True)
class UnbondBond(ProgramInstruction):
    """Takes a part of the operator's own stake out."""

    name: ClassVar[str] = "unbond_bond"
    ACCOUNTS: ClassVar[type[UnbondBondAccounts]] = UnbondBondAccounts
    ARGS: ClassVar[type[UnbondBondArgs]] = UnbondBondArgs
    accounts: UnbondBondAccounts
    args: UnbondBondArgs


@dataclass(frozen=True, slots=True)
class SetCommissionAccounts:
    """Accounts of set_commission, in order."""

    operator: Pubkey
    config: Pubkey
    node: Pubkey
    pool: Pubkey


@dataclass(frozen=True, slots=True)
class SetCommissionArgs:
    """Arguments of set_commission, in order."""

    commission_bps: int


@dataclass(frozen=True, slots=True)
class SetCommission(ProgramInstruction):
    """Announces another commission."""

    name: ClassVar[str] = "set_commission"
    ACCOUNTS: ClassVar[type[SetCommissionAccounts]] = SetCommissionAccounts
    ARGS: ClassVar[type[SetCommissionArgs]] = SetCommissionArgs
    accounts: SetCommissionAccounts
    args: SetCommissionArgs


@dataclass(frozen=True, slots=True)
class DrainAccounts:
    """Accounts of drain, in order."""

    operator: Pubkey
    node: Pubkey


@dataclass(frozen=True, slots=True)
class DrainArgs:
    """Arguments of drain, in order."""

    draining: bool


@dataclass(frozen=True, slots=True)
class Drain(ProgramInstruction):
    """Stops taking work, or takes it again."""

    name: ClassVar[str] = "drain"
    ACCOUNTS: ClassVar[type[DrainAccounts]] = DrainAccounts
    ARGS: ClassVar[type[DrainArgs]] = DrainArgs
    accounts: DrainAccounts
    args: DrainArgs


@dataclass(frozen=True, slots=True)
class RetireAccounts:
    """Accounts of retire, in order."""

    operator: Pubkey
    config: Pubkey
    market: Pubkey
    market_fees: Pubkey
    node: Pubkey
    pool: Pubkey
    position: Pubkey
    pool_stake: Pubkey
    pool_fees: Pubkey
    emission_vault: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class Retire(ProgramInstruction):
    """Retires a node, and closes it once nothing of it is owed to anybody."""

    name: ClassVar[str] = "retire"
    ACCOUNTS: ClassVar[type[RetireAccounts]] = RetireAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: RetireAccounts
    args: NoArgs = NO_ARGS
