"""A transaction taken apart and compared, part by part, with what a wallet asked for.

The market's transaction is taken apart into its instructions. Each must be one that this request allows, and equal
to the instruction that the checks (`guard`, `stake_guard`) build themselves from the request, from the wallet's own
addresses (all derived here) and from the market's pinned identity. So a field that nobody thought of checking can't
slip through. The market's summary is never read.
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

from marketplace.chain.builders import CallBuilder
from marketplace.chain.errors import UnsupportedTransaction
from marketplace.chain.instructions import OpenVault, ProgramInstruction
from marketplace.chain.program import AnchorCodec
from marketplace.chain.transactions import (
    LAMPORTS_PER_SIGNATURE,
    CreateTokenAccount,
    InspectedTransaction,
    inspect,
)
from marketplace.client.errors import TransactionRefused
from marketplace.client.keypairs import Keypair
from marketplace.client.terms import MarketOnChain
from marketplace.domain.money import format_amount

MAX_PRIORITY_FEE_LAMPORTS: Final = 1_000_000
"""Chosen: 0.001 SOL, two hundred times the base fee of one signature; more would be a market burning the wallet's."""
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


class TransactionChecks:
    """Takes transactions apart for one wallet at one market."""

    def __init__(self, market: MarketOnChain, wallet: Pubkey) -> None:
        self._market = market
        self._wallet = wallet
        self._build = CallBuilder(market.deployment)
        self._codec = AnchorCodec(market.deployment.program)

    def _inspect(self, transaction: str, *, may_create: Sequence[Pubkey] = ()) -> InspectedTransaction:
        """The transaction, read whole. may_create: mints of which it may create the wallet's own token account."""
        try:
            inspected = inspect(transaction, self._codec)
        except UnsupportedTransaction as error:
            raise TransactionRefused(error.message) from error
        if inspected.payer != self._wallet:
            raise TransactionRefused(f"its fee payer is {inspected.payer}, not this wallet")
        if inspected.signers != (self._wallet,):
            others = ", ".join(str(key) for key in inspected.signers[1:])
            raise TransactionRefused(f"it needs the signature of somebody else too ({others})")
        own_accounts = [CreateTokenAccount(payer=self._wallet, owner=self._wallet, mint=mint) for mint in may_create]
        for step in inspected.steps:
            if not isinstance(step, ProgramInstruction) and step not in own_accounts:
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
        """Its calls, each of an allowed kind and there once."""
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

    def _each(self, inspected: InspectedTransaction, expected: Sequence[_Call]) -> None:
        """Its calls are the expected ones, each once, in whatever order."""
        if not expected:
            raise TransactionRefused("nothing was asked for")
        kind = type(expected[0])
        offered = inspected.calls
        for call in offered:
            if not isinstance(call, kind):
                raise TransactionRefused(f"it also does `{call.name}`, which was not asked for")
        if len(offered) != len(expected):
            raise TransactionRefused(f"it does `{kind.name}` {len(offered)} times, expected {len(expected)}")
        missing = [call for call in expected if call not in offered]
        strange = [call for call in offered if call not in expected]
        if strange and missing:
            self._compare(strange[0], missing[0])
        if missing or len(set(offered)) != len(offered):
            raise TransactionRefused(f"it does the same `{kind.name}` more than once")

    def _text(self, amount: int) -> str:
        return format_amount(amount, self._market.decimals)

    def _stake_text(self, amount: int) -> str:
        return format_amount(amount, self._market.deployment.stake_decimals)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "none" if value is None else str(value)


def _sol(lamports: int) -> str:
    return format(Decimal(lamports) / 10**9, "f")
