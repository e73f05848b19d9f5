"""What a wallet signs: only a transaction that does what was asked for, and nothing besides.

The market's transaction is taken apart into its instructions. Each must be one that this request allows, and equal
to the instruction that this module builds itself from the request, from the wallet's own addresses (all derived
here) and from the market's pinned identity. What the request leaves open (a nonce, a lower deposit) is read from
the market's instruction, bounded, and put into ours before the two are compared. So a field that nobody thought of
checking can't slip through. The market's summary is never read.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeVar

import base58
from solders.message import to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from marketplace.chain import builders
from marketplace.chain.builders import CallBuilder, EscrowRef
from marketplace.chain.errors import UnsupportedTransaction
from marketplace.chain.instructions import (
    Deposit,
    GrantAllowance,
    OpenEscrow,
    OpenVault,
    ProgramInstruction,
    RevokeAllowance,
    Withdraw,
)
from marketplace.chain.program import AnchorCodec
from marketplace.chain.transactions import (
    LAMPORTS_PER_SIGNATURE,
    CreateTokenAccount,
    InspectedTransaction,
    inspect,
)
from marketplace.client.errors import TransactionRefused
from marketplace.client.keypairs import Keypair
from marketplace.client.terms import AllowanceTerms, EscrowTerms, MarketOnChain
from marketplace.domain.money import format_amount

MAX_PRIORITY_FEE_LAMPORTS: Final = 1_000_000
"""Chosen: 0.001 SOL, two hundred times the base fee of one signature; more would be a market burning the wallet's."""
MAX_ATTEMPTS: Final = 5
"""Specified: api.md section 5.2, `retry.max_attempts`."""
_Call = TypeVar("_Call", bound=ProgramInstruction)


@dataclass(frozen=True, slots=True)
class CheckedTransaction:
    """A transaction that passed; only these can be signed.

    summary: what it does, written here from the decoded instructions.
    """

    summary: str
    _raw: bytes = field(repr=False)
    _wallet: Pubkey
    escrow: str | None = None

    def signed_by(self, keypair: Keypair) -> bytes:
        """The transaction with the wallet's signature. Raises TransactionRefused for another wallet's keypair."""
        if keypair.address != self._wallet:
            raise TransactionRefused("it was checked for another wallet")
        message = VersionedTransaction.from_bytes(self._raw).message
        signature = Signature.from_bytes(keypair.sign(to_bytes_versioned(message)))
        return bytes(VersionedTransaction.populate(message, [signature]))

    @property
    def relay_key(self) -> str:
        """Idempotency-Key under which these bytes are relayed: the same bytes, the same key."""
        return "relay-" + hashlib.sha256(self._raw).hexdigest()[:40]

    @staticmethod
    def signature_of(signed: bytes) -> str:
        """Base58 of the first signature, which is the transaction's id."""
        return base58.b58encode(signed[1:65]).decode()


class Guard:
    """Checks transactions for one wallet at one market."""

    def __init__(self, market: MarketOnChain, wallet: Pubkey) -> None:
        self._market = market
        self._wallet = wallet
        self._build = CallBuilder(market.deployment)
        self._codec = AnchorCodec(market.deployment.program)

    def deposit(self, transaction: str, amount: int) -> CheckedTransaction:
        """[open the own vault] and deposit exactly `amount` from the own token account."""
        inspected = self._inspect(transaction)
        calls = self._calls(inspected, allowed=(OpenVault, Deposit))
        self._compare(self._only(calls, Deposit), self._build.deposit(self._wallet, self._wallet, amount))
        return self._checked(inspected, f"deposits {self._text(amount)} into the own vault")

    def withdraw(self, transaction: str, amount: int | None) -> CheckedTransaction:
        """Withdraw `amount` (None: whatever isn't locked) to the own token account, created where absent."""
        inspected = self._inspect(transaction, may_create_own_account=True)
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
        if not 1 <= offered.attempts_allowed <= MAX_ATTEMPTS:
            raise TransactionRefused(f"it allows {offered.attempts_allowed} attempts, at most {MAX_ATTEMPTS} are sold")
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

    def _inspect(self, transaction: str, *, may_create_own_account: bool = False) -> InspectedTransaction:
        try:
            inspected = inspect(transaction, self._codec)
        except UnsupportedTransaction as error:
            raise TransactionRefused(error.message) from error
        if inspected.payer != self._wallet:
            raise TransactionRefused(f"its fee payer is {inspected.payer}, not this wallet")
        if inspected.signers != (self._wallet,):
            others = ", ".join(str(key) for key in inspected.signers[1:])
            raise TransactionRefused(f"it needs the signature of somebody else too ({others})")
        own_account = CreateTokenAccount(
            payer=self._wallet, owner=self._wallet, mint=self._market.deployment.payment_mint
        )
        for step in inspected.steps:
            known = isinstance(step, ProgramInstruction) or (may_create_own_account and step == own_account)
            if not known:
                raise TransactionRefused(f"it also holds {type(step).__name__}, which was not asked for")
        # The priority fee leaves the wallet without a trace in any argument: it has a bound of its own.
        priority = inspected.fee_lamports - LAMPORTS_PER_SIGNATURE
        if priority > MAX_PRIORITY_FEE_LAMPORTS:
            raise TransactionRefused(
                f"its priority fee is {_sol(priority)} SOL, at most {_sol(MAX_PRIORITY_FEE_LAMPORTS)} SOL is accepted"
            )
        return inspected

    def _calls(
        self, inspected: InspectedTransaction, allowed: tuple[type[ProgramInstruction], ...]
    ) -> tuple[ProgramInstruction, ...]:
        calls = inspected.calls
        for call in calls:
            if not isinstance(call, allowed):
                raise TransactionRefused(f"it also does `{call.name}`, which was not asked for")
            if sum(1 for other in calls if other.name == call.name) > 1:
                raise TransactionRefused(f"it does `{call.name}` more than once")
            if isinstance(call, OpenVault):
                self._compare(call, self._build.open_vault(self._wallet, self._wallet))
        return calls

    def _only(self, calls: Sequence[ProgramInstruction], kind: type[_Call]) -> _Call:
        for call in calls:
            if isinstance(call, kind):
                return call
        raise TransactionRefused(f"it doesn't do `{kind.name}`, which was asked for")

    def _compare(self, offered: ProgramInstruction, expected: ProgramInstruction) -> None:
        """Equal in every account and argument; the first that differs is named."""
        for part in ("accounts", "args"):
            ours, theirs = getattr(expected, part), getattr(offered, part)
            for name in type(ours).__dataclass_fields__:
                wanted, found = getattr(ours, name), getattr(theirs, name)
                if wanted != found:
                    raise TransactionRefused(
                        f"{name.replace('_', ' ')} of `{expected.name}` is {_shown(found)}, expected {_shown(wanted)}"
                    )
        if offered != expected:
            raise TransactionRefused(f"`{expected.name}` differs from what was asked for")

    def _at_most(self, what: str, offered: int, limit: int) -> None:
        if offered > limit:
            raise TransactionRefused(f"{what} is {self._text(offered)}, at most {self._text(limit)} was agreed")

    def _checked(self, inspected: InspectedTransaction, summary: str, escrow: str | None = None) -> CheckedTransaction:
        return CheckedTransaction(summary=summary, _raw=inspected.raw, _wallet=self._wallet, escrow=escrow)

    def _text(self, amount: int) -> str:
        return format_amount(amount, self._market.decimals)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "none" if value is None else str(value)


def _sol(lamports: int) -> str:
    return format(Decimal(lamports) / 10**9, "f")
