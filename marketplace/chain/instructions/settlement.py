"""What opens, runs, ends and closes an escrow."""

from dataclasses import dataclass
from typing import ClassVar

from solders.pubkey import Pubkey

from marketplace.chain.instructions.base import NO_ARGS, NoArgs, ProgramInstruction


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
    args: NoArgs = NO_ARGS


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
    args: NoArgs = NO_ARGS


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
    args: NoArgs = NO_ARGS


@dataclass(frozen=True, slots=True)
class ExtendEscrowAccounts:
    """Accounts of extend_escrow, in order."""

    opener: Pubkey
    config: Pubkey
    market: Pubkey
    escrow: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    allowance: Pubkey | None
    node: Pubkey | None
    pool: Pubkey | None


@dataclass(frozen=True, slots=True)
class ExtendEscrowArgs:
    """Arguments of extend_escrow, in order."""

    added_deposit: int
    added_time: int


@dataclass(frozen=True, slots=True)
class ExtendEscrow(ProgramInstruction):
    """Adds deposit or time to an escrow."""

    name: ClassVar[str] = "extend_escrow"
    ACCOUNTS: ClassVar[type[ExtendEscrowAccounts]] = ExtendEscrowAccounts
    ARGS: ClassVar[type[ExtendEscrowArgs]] = ExtendEscrowArgs
    accounts: ExtendEscrowAccounts
    args: ExtendEscrowArgs


@dataclass(frozen=True, slots=True)
class ProveOverclaimAccounts:
    """Accounts of prove_overclaim, in order."""

    submitter: Pubkey
    config: Pubkey
    escrow: Pubkey
    vault: Pubkey
    allowance: Pubkey | None
    node: Pubkey
    pool: Pubkey
    pool_stake: Pubkey
    emission_vault: Pubkey
    instructions: Pubkey
    token_program: Pubkey


@dataclass(frozen=True, slots=True)
class ProveOverclaimArgs:
    """Arguments of prove_overclaim, in order."""

    voucher: VoucherArgs


@dataclass(frozen=True, slots=True)
class ProveOverclaim(ProgramInstruction):
    """Shows that a node signed for more time than can have passed."""

    name: ClassVar[str] = "prove_overclaim"
    ACCOUNTS: ClassVar[type[ProveOverclaimAccounts]] = ProveOverclaimAccounts
    ARGS: ClassVar[type[ProveOverclaimArgs]] = ProveOverclaimArgs
    accounts: ProveOverclaimAccounts
    args: ProveOverclaimArgs
