"""A market's own: its keys, its fee, what it has earned, its nodes."""

from dataclasses import dataclass
from typing import ClassVar

from solders.pubkey import Pubkey

from marketplace.chain.instructions.base import NO_ARGS, NoArgs, ProgramInstruction


@dataclass(frozen=True, slots=True)
class RegisterMarketAccounts:
    """Accounts of register_market, in order."""

    payer: Pubkey
    authority: Pubkey
    config: Pubkey
    market: Pubkey
    market_fees: Pubkey
    payment_mint: Pubkey
    token_program: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class RegisterMarketArgs:
    """Arguments of register_market, in order."""

    matcher: Pubkey
    meter: Pubkey
    fee_bps: int


@dataclass(frozen=True, slots=True)
class RegisterMarket(ProgramInstruction):
    """Makes a market."""

    name: ClassVar[str] = "register_market"
    ACCOUNTS: ClassVar[type[RegisterMarketAccounts]] = RegisterMarketAccounts
    ARGS: ClassVar[type[RegisterMarketArgs]] = RegisterMarketArgs
    accounts: RegisterMarketAccounts
    args: RegisterMarketArgs


@dataclass(frozen=True, slots=True)
class RotateKeysAccounts:
    """Accounts of rotate_keys, in order."""

    authority: Pubkey
    market: Pubkey


@dataclass(frozen=True, slots=True)
class RotateKeysArgs:
    """Arguments of rotate_keys, in order."""

    matcher: Pubkey
    meter: Pubkey


@dataclass(frozen=True, slots=True)
class RotateKeys(ProgramInstruction):
    """Replaces a market's matcher and meter."""

    name: ClassVar[str] = "rotate_keys"
    ACCOUNTS: ClassVar[type[RotateKeysAccounts]] = RotateKeysAccounts
    ARGS: ClassVar[type[RotateKeysArgs]] = RotateKeysArgs
    accounts: RotateKeysAccounts
    args: RotateKeysArgs


@dataclass(frozen=True, slots=True)
class SetFeeAccounts:
    """Accounts of set_fee, in order."""

    authority: Pubkey
    config: Pubkey
    market: Pubkey


@dataclass(frozen=True, slots=True)
class SetFeeArgs:
    """Arguments of set_fee, in order."""

    fee_bps: int


@dataclass(frozen=True, slots=True)
class SetFee(ProgramInstruction):
    """Announces another market fee."""

    name: ClassVar[str] = "set_fee"
    ACCOUNTS: ClassVar[type[SetFeeAccounts]] = SetFeeAccounts
    ARGS: ClassVar[type[SetFeeArgs]] = SetFeeArgs
    accounts: SetFeeAccounts
    args: SetFeeArgs


@dataclass(frozen=True, slots=True)
class WithdrawFeesAccounts:
    """Accounts of withdraw_fees, in order."""

    authority: Pubkey
    market: Pubkey
    market_fees: Pubkey
    destination: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class WithdrawFees(ProgramInstruction):
    """Pays out what a market has earned."""

    name: ClassVar[str] = "withdraw_fees"
    ACCOUNTS: ClassVar[type[WithdrawFeesAccounts]] = WithdrawFeesAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: WithdrawFeesAccounts
    args: NoArgs = NO_ARGS


@dataclass(frozen=True, slots=True)
class SweepProtocolFeesAccounts:
    """Accounts of sweep_protocol_fees, in order."""

    submitter: Pubkey
    config: Pubkey
    market: Pubkey
    market_fees: Pubkey
    protocol_token: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class SweepProtocolFees(ProgramInstruction):
    """Moves the protocol's part of a market's fees to the protocol."""

    name: ClassVar[str] = "sweep_protocol_fees"
    ACCOUNTS: ClassVar[type[SweepProtocolFeesAccounts]] = SweepProtocolFeesAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: SweepProtocolFeesAccounts
    args: NoArgs = NO_ARGS


@dataclass(frozen=True, slots=True)
class SuspendNodeAccounts:
    """Accounts of suspend_node, in order."""

    authority: Pubkey
    market: Pubkey
    node: Pubkey


@dataclass(frozen=True, slots=True)
class SuspendNodeArgs:
    """Arguments of suspend_node, in order."""

    suspended: bool


@dataclass(frozen=True, slots=True)
class SuspendNode(ProgramInstruction):
    """Gives one of its nodes no more work, or gives it work again."""

    name: ClassVar[str] = "suspend_node"
    ACCOUNTS: ClassVar[type[SuspendNodeAccounts]] = SuspendNodeAccounts
    ARGS: ClassVar[type[SuspendNodeArgs]] = SuspendNodeArgs
    accounts: SuspendNodeAccounts
    args: SuspendNodeArgs
