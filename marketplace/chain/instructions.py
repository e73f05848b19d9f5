"""The program's instructions, each with its accounts and arguments. Source: programs/reaver_market/src/instructions.

These are the wire's own names and order; `builders` makes them from what a caller knows. A test compares
every account and argument with the IDL. An optional account that is None is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final

from solders.pubkey import Pubkey

from marketplace.chain.accounts import Params


class ProgramInstruction:
    """Base of all instructions: `accounts` and `args` of the kinds named by ACCOUNTS and ARGS."""

    __slots__ = ()
    name: ClassVar[str]
    ACCOUNTS: ClassVar[type[Any]]
    ARGS: ClassVar[type[Any]]
    accounts: Any
    args: Any


@dataclass(frozen=True, slots=True)
class NoArgs:
    """The instruction takes no arguments."""


@dataclass(frozen=True, slots=True)
class VoucherArgs:
    """A voucher as an argument: what the program can't know from its accounts, and who approves."""

    sequence: int
    """From 1; 0: no voucher is shown."""
    started_at: int
    at: int
    billed: int
    state: int
    """1 running, 2 ended, 3 final."""
    reason: int
    digest: bytes
    node_approval: int
    """Index of the Ed25519 instruction with the node's signature; 255: the submitter is the node."""
    counter_approval: int
    """The same for the meter's (or the wallet's) signature."""


@dataclass(frozen=True, slots=True)
class SettleAccounts:
    """Accounts of settle, in order."""

    submitter: Pubkey
    config: Pubkey
    market: Pubkey
    market_fees: Pubkey
    escrow: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    allowance: Pubkey | None
    node: Pubkey
    pool: Pubkey
    pool_fees: Pubkey
    payout: Pubkey
    rent_payer: Pubkey
    instructions: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class SettleArgs:
    """Arguments of settle, in order."""

    attempt: int
    voucher: VoucherArgs


@dataclass(frozen=True, slots=True)
class Settle(ProgramInstruction):
    """Pays what a voucher of both sides says; ends the attempt or the escrow if it says so."""

    name: ClassVar[str] = "settle"
    ACCOUNTS: ClassVar[type[SettleAccounts]] = SettleAccounts
    ARGS: ClassVar[type[SettleArgs]] = SettleArgs
    accounts: SettleAccounts
    args: SettleArgs


@dataclass(frozen=True, slots=True)
class AssignAccounts:
    """Accounts of assign, in order."""

    matcher: Pubkey
    config: Pubkey
    market: Pubkey
    escrow: Pubkey
    allowance: Pubkey | None
    node: Pubkey
    pool: Pubkey
    class_account: Pubkey
    instructions: Pubkey


@dataclass(frozen=True, slots=True)
class AssignArgs:
    """Arguments of assign, in order."""

    price: int
    time_left: int
    deposit_left: int
    at: int
    claim_approval: int


@dataclass(frozen=True, slots=True)
class Assign(ProgramInstruction):
    """Starts an attempt on a node that has signed a claim."""

    name: ClassVar[str] = "assign"
    ACCOUNTS: ClassVar[type[AssignAccounts]] = AssignAccounts
    ARGS: ClassVar[type[AssignArgs]] = AssignArgs
    accounts: AssignAccounts
    args: AssignArgs


@dataclass(frozen=True, slots=True)
class OpenEscrowAccounts:
    """Accounts of open_escrow, in order."""

    payer: Pubkey
    authority: Pubkey
    config: Pubkey
    market: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    allowance: Pubkey | None
    escrow: Pubkey
    system_program: Pubkey


@dataclass(frozen=True, slots=True)
class OpenEscrowArgs:
    """Arguments of open_escrow, in order."""

    nonce: int
    class_id: bytes
    terms_hash: bytes
    ceiling_price: int
    deposit: int
    max_time: int
    attempts_allowed: int


@dataclass(frozen=True, slots=True)
class OpenEscrow(ProgramInstruction):
    """Locks a deposit under terms."""

    name: ClassVar[str] = "open_escrow"
    ACCOUNTS: ClassVar[type[OpenEscrowAccounts]] = OpenEscrowAccounts
    ARGS: ClassVar[type[OpenEscrowArgs]] = OpenEscrowArgs
    accounts: OpenEscrowAccounts
    args: OpenEscrowArgs


@dataclass(frozen=True, slots=True)
class ReleaseNodeAccounts:
    """Accounts of release_node, in order."""

    submitter: Pubkey
    config: Pubkey
    market: Pubkey
    market_fees: Pubkey
    escrow: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    allowance: Pubkey | None
    node: Pubkey
    pool: Pubkey
    pool_fees: Pubkey
    payout: Pubkey
    instructions: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class ReleaseNodeArgs:
    """Arguments of release_node, in order."""

    reason: int
    voucher: VoucherArgs


@dataclass(frozen=True, slots=True)
class ReleaseNode(ProgramInstruction):
    """Ends an attempt from the market's side."""

    name: ClassVar[str] = "release_node"
    ACCOUNTS: ClassVar[type[ReleaseNodeAccounts]] = ReleaseNodeAccounts
    ARGS: ClassVar[type[ReleaseNodeArgs]] = ReleaseNodeArgs
    accounts: ReleaseNodeAccounts
    args: ReleaseNodeArgs


@dataclass(frozen=True, slots=True)
class QuitAccounts:
    """Accounts of quit, in order."""

    submitter: Pubkey
    config: Pubkey
    market: Pubkey
    market_fees: Pubkey
    escrow: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    allowance: Pubkey | None
    node: Pubkey
    pool: Pubkey
    pool_fees: Pubkey
    payout: Pubkey
    instructions: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class QuitArgs:
    """Arguments of quit, in order."""

    voucher: VoucherArgs


@dataclass(frozen=True, slots=True)
class Quit(ProgramInstruction):
    """Ends an attempt from the node's side."""

    name: ClassVar[str] = "quit"
    ACCOUNTS: ClassVar[type[QuitAccounts]] = QuitAccounts
    ARGS: ClassVar[type[QuitArgs]] = QuitArgs
    accounts: QuitAccounts
    args: QuitArgs


@dataclass(frozen=True, slots=True)
class ContestAccounts:
    """Accounts of contest, in order."""

    submitter: Pubkey
    config: Pubkey
    market: Pubkey
    market_fees: Pubkey
    escrow: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    allowance: Pubkey | None
    node: Pubkey
    pool: Pubkey
    pool_fees: Pubkey
    payout: Pubkey
    instructions: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class ContestArgs:
    """Arguments of contest, in order."""

    voucher: VoucherArgs


@dataclass(frozen=True, slots=True)
class Contest(ProgramInstruction):
    """Shows a later voucher of a contested attempt."""

    name: ClassVar[str] = "contest"
    ACCOUNTS: ClassVar[type[ContestAccounts]] = ContestAccounts
    ARGS: ClassVar[type[ContestArgs]] = ContestArgs
    accounts: ContestAccounts
    args: ContestArgs


@dataclass(frozen=True, slots=True)
class CloseContestAccounts:
    """Accounts of close_contest, in order."""

    submitter: Pubkey
    config: Pubkey
    escrow: Pubkey
    vault: Pubkey
    allowance: Pubkey | None
    node: Pubkey
    pool: Pubkey
    position: Pubkey
    pool_stake: Pubkey
    compensation_vault: Pubkey
    rent_payer: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class CloseContest(ProgramInstruction):
    """Ends a contest after its window, and takes the compensation of a loss."""

    name: ClassVar[str] = "close_contest"
    ACCOUNTS: ClassVar[type[CloseContestAccounts]] = CloseContestAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: CloseContestAccounts
    args: NoArgs = NoArgs()


@dataclass(frozen=True, slots=True)
class ReapAccounts:
    """Accounts of reap, in order."""

    submitter: Pubkey
    config: Pubkey
    escrow: Pubkey
    vault: Pubkey
    allowance: Pubkey | None
    node: Pubkey | None
    rent_payer: Pubkey


@dataclass(frozen=True, slots=True)
class Reap(ProgramInstruction):
    """Ends an escrow whose time has run out."""

    name: ClassVar[str] = "reap"
    ACCOUNTS: ClassVar[type[ReapAccounts]] = ReapAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: ReapAccounts
    args: NoArgs = NoArgs()


@dataclass(frozen=True, slots=True)
class CancelEscrowAccounts:
    """Accounts of cancel_escrow, in order."""

    authority: Pubkey
    config: Pubkey
    market: Pubkey
    escrow: Pubkey
    vault: Pubkey
    allowance: Pubkey | None
    rent_payer: Pubkey


@dataclass(frozen=True, slots=True)
class CancelEscrow(ProgramInstruction):
    """Ends an open escrow, or stops a running one."""

    name: ClassVar[str] = "cancel_escrow"
    ACCOUNTS: ClassVar[type[CancelEscrowAccounts]] = CancelEscrowAccounts
    ARGS: ClassVar[type[NoArgs]] = NoArgs
    accounts: CancelEscrowAccounts
    args: NoArgs = NoArgs()


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
    args: NoArgs = NoArgs()


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
    args: NoArgs = NoArgs()


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
    args: NoArgs = NoArgs()


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
    args: NoArgs = NoArgs()


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
    args: NoArgs = NoArgs()


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


INSTRUCTION_TYPES: Final[Mapping[str, type[ProgramInstruction]]] = MappingProxyType(
    {
        "settle": Settle,
        "assign": Assign,
        "open_escrow": OpenEscrow,
        "release_node": ReleaseNode,
        "quit": Quit,
        "contest": Contest,
        "close_contest": CloseContest,
        "reap": Reap,
        "cancel_escrow": CancelEscrow,
        "open_vault": OpenVault,
        "deposit": Deposit,
        "withdraw": Withdraw,
        "claim_compensation": ClaimCompensation,
        "grant_allowance": GrantAllowance,
        "revoke_allowance": RevokeAllowance,
        "register_node": RegisterNode,
        "bond": Bond,
        "update_node": UpdateNode,
        "withdraw_owed": WithdrawOwed,
        "register_market": RegisterMarket,
        "initialize": Initialize,
        "set_class": SetClass,
    }
)
