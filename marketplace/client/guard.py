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
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeVar

import base58
from solders.compute_budget import ID as COMPUTE_BUDGET_PROGRAM
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from marketplace.chain.addresses import (
    ASSOCIATED_TOKEN_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    Addresses,
    associated_token_address,
    class_id,
    parse_address,
)
from marketplace.chain.errors import NotCanonical, UnsupportedTransaction
from marketplace.chain.instructions import (
    Deposit,
    DepositAccounts,
    DepositArgs,
    GrantAllowance,
    GrantAllowanceAccounts,
    GrantAllowanceArgs,
    OpenEscrow,
    OpenEscrowAccounts,
    OpenEscrowArgs,
    OpenVault,
    OpenVaultAccounts,
    ProgramInstruction,
    RevokeAllowance,
    RevokeAllowanceAccounts,
    Withdraw,
    WithdrawAccounts,
    WithdrawArgs,
)
from marketplace.chain.program import AnchorCodec, create_token_account
from marketplace.client.errors import MalformedAnswer, TransactionRefused
from marketplace.client.keypairs import Keypair
from marketplace.client.models import ChainConstants
from marketplace.client.requests import JobRequest
from marketplace.domain.catalogue import find_class
from marketplace.domain.money import format_amount
from marketplace.protocol.terms import terms_hash

MAX_PRIORITY_FEE_LAMPORTS: Final = 1_000_000
"""Chosen: 0.001 SOL, two hundred times the base fee of one signature; more would be a market burning the wallet's."""
MAX_ATTEMPTS: Final = 5
"""Specified: api.md section 5.2, `retry.max_attempts`."""
_MAX_COMPUTE_UNITS: Final = 1_400_000
_MICRO: Final = 1_000_000
_SET_LIMIT: Final = 2
_SET_PRICE: Final = 3
_MAX_TRANSACTION_BYTES: Final = 1232
_Call = TypeVar("_Call", bound=ProgramInstruction)


@dataclass(frozen=True, slots=True)
class MarketOnChain:
    """The identity that every transaction is held against."""

    program: Pubkey
    market: Pubkey
    mint: Pubkey
    decimals: int
    quote_key: Pubkey | None = None

    @classmethod
    def of(cls, constants: ChainConstants) -> "MarketOnChain":
        """From the published (and pinned) constants. Raises MalformedAnswer for text that is no address."""
        try:
            return cls(
                program=parse_address(constants.program_id),
                market=parse_address(constants.market),
                mint=parse_address(constants.payment_mint),
                decimals=constants.decimals,
                quote_key=None if constants.quote_key is None else parse_address(constants.quote_key),
            )
        except NotCanonical as error:
            raise MalformedAnswer(f"the market's constants name an address that is none: {error}") from error


@dataclass(frozen=True, slots=True)
class AllowanceTerms:
    """Caps of an allowance, base units of the payment token. expires_at: UTC, whole seconds."""

    per_job: int
    per_day: int
    total: int
    max_price_per_hour: int
    expires_at: datetime

    def expires_at_text(self) -> str:
        """RFC 3339 with Z."""
        return self.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def expires_at_ms(self) -> int:
        """Milliseconds since the Unix epoch, as the program counts."""
        return int(self.expires_at.timestamp()) * 1000


@dataclass(frozen=True, slots=True)
class EscrowTerms:
    """What an escrow may be: exact terms, and upper bounds for its money."""

    class_id: bytes
    terms_hash: bytes
    ceiling_price: int
    deposit: int
    max_time_ms: int

    @classmethod
    def of(cls, request: JobRequest, *, key: str, ceiling_price: int, deposit: int) -> "EscrowTerms":
        """Terms of a job: the hash is made here, from the request and the key under which it is submitted."""
        spec = request.spec()
        return cls(
            class_id=class_id(find_class(request.gpu).id),
            terms_hash=terms_hash(spec.spec_hash(), key),
            ceiling_price=ceiling_price,
            deposit=deposit,
            max_time_ms=spec.limit_ms,
        )


@dataclass(frozen=True, slots=True)
class CheckedTransaction:
    """A transaction that passed; only these can be signed.

    summary: what it does, written here from the decoded instructions.
    """

    summary: str
    _transaction: VersionedTransaction = field(repr=False)
    _wallet: Pubkey
    escrow: str | None = None

    def signed_by(self, keypair: Keypair) -> bytes:
        """The transaction with the wallet's signature. Raises TransactionRefused for another wallet's keypair."""
        if keypair.address != self._wallet:
            raise TransactionRefused("it was checked for another wallet")
        message = self._transaction.message
        signature = Signature.from_bytes(keypair.sign(to_bytes_versioned(message)))
        return bytes(VersionedTransaction.populate(message, [signature]))

    @property
    def relay_key(self) -> str:
        """Idempotency-Key under which these bytes are relayed: the same bytes, the same key."""
        return "relay-" + hashlib.sha256(to_bytes_versioned(self._transaction.message)).hexdigest()[:40]

    @staticmethod
    def signature_of(signed: bytes) -> str:
        """Base58 of the first signature, which is the transaction's id."""
        return base58.b58encode(signed[1:65]).decode()


@dataclass(frozen=True, slots=True)
class _Step:
    """One instruction: a decoded call of our program, or another program's raw one."""

    program: Pubkey
    accounts: tuple[Pubkey, ...]
    data: bytes
    call: ProgramInstruction | None


class Guard:
    """Checks transactions for one wallet at one market."""

    def __init__(self, market: MarketOnChain, wallet: Pubkey) -> None:
        self._market = market
        self._wallet = wallet
        self._at = Addresses(market.program)
        self._codec = AnchorCodec(market.program)
        self._vault = self._at.vault(wallet)
        self._tokens = associated_token_address(wallet, market.mint)

    def deposit(self, raw: bytes, amount: int) -> CheckedTransaction:
        """[open the own vault] and deposit exactly `amount` from the own token account."""
        transaction, steps = self._take_apart(raw)
        calls = self._calls(steps, allowed=(OpenVault, Deposit))
        self._compare(self._only(calls, Deposit), self._deposit(amount))
        return self._checked(transaction, f"deposits {self._text(amount)} into the own vault")

    def withdraw(self, raw: bytes, amount: int | None) -> CheckedTransaction:
        """Withdraw `amount` (None: whatever isn't locked) to the own token account, created where absent."""
        transaction, steps = self._take_apart(raw, may_create_own_account=True)
        calls = self._calls(steps, allowed=(Withdraw,))
        call = self._only(calls, Withdraw)
        moved = call.args.amount if amount is None else amount
        expected = Withdraw(
            accounts=WithdrawAccounts(
                wallet=self._wallet,
                vault=self._vault,
                vault_tokens=self._at.vault_tokens(self._vault),
                destination=self._tokens,
                token_program=TOKEN_PROGRAM,
            ),
            args=WithdrawArgs(amount=moved),
        )
        self._compare(call, expected)
        return self._checked(transaction, f"withdraws {self._text(moved)} to the own token account")

    def grant(self, raw: bytes, terms: AllowanceTerms) -> CheckedTransaction:
        """Grant this market exactly these caps."""
        transaction, steps = self._take_apart(raw)
        calls = self._calls(steps, allowed=(GrantAllowance,))
        expected = GrantAllowance(
            accounts=GrantAllowanceAccounts(
                payer=self._wallet,
                wallet=self._wallet,
                config=self._at.config(),
                market=self._market.market,
                allowance=self._at.allowance(self._wallet, self._market.market),
                system_program=SYSTEM_PROGRAM,
            ),
            args=GrantAllowanceArgs(
                escrow_cap=terms.per_job,
                day_cap=terms.per_day,
                total_cap=terms.total,
                max_price=terms.max_price_per_hour,
                expires_at=terms.expires_at_ms(),
            ),
        )
        self._compare(self._only(calls, GrantAllowance), expected)
        return self._checked(
            transaction,
            f"lets market {self._market.market} spend {self._text(terms.per_job)} a job, "
            f"{self._text(terms.per_day)} a day, {self._text(terms.total)} in all, until {terms.expires_at_text()}",
        )

    def revoke(self, raw: bytes) -> CheckedTransaction:
        """Take back this market's allowance."""
        transaction, steps = self._take_apart(raw)
        calls = self._calls(steps, allowed=(RevokeAllowance,))
        allowance = self._at.allowance(self._wallet, self._market.market)
        expected = RevokeAllowance(accounts=RevokeAllowanceAccounts(wallet=self._wallet, allowance=allowance))
        self._compare(self._only(calls, RevokeAllowance), expected)
        return self._checked(transaction, f"revokes the allowance of market {self._market.market}")

    def open_escrow(self, raw: bytes, terms: EscrowTerms) -> CheckedTransaction:
        """[open the own vault] [deposit at most what the escrow locks] and open the escrow of these terms."""
        transaction, steps = self._take_apart(raw)
        calls = self._calls(steps, allowed=(OpenVault, Deposit, OpenEscrow))
        call = self._only(calls, OpenEscrow)
        offered = call.args
        self._at_most("its deposit", offered.deposit, terms.deposit)
        self._at_most("its ceiling price per hour", offered.ceiling_price, terms.ceiling_price)
        if not 1 <= offered.attempts_allowed <= MAX_ATTEMPTS:
            raise TransactionRefused(f"it allows {offered.attempts_allowed} attempts, at most {MAX_ATTEMPTS} are sold")
        escrow = self._at.escrow(self._wallet, self._wallet, offered.nonce)
        expected = OpenEscrow(
            accounts=OpenEscrowAccounts(
                payer=self._wallet,
                authority=self._wallet,
                config=self._at.config(),
                market=self._market.market,
                vault=self._vault,
                vault_tokens=self._at.vault_tokens(self._vault),
                allowance=None,
                escrow=escrow,
                system_program=SYSTEM_PROGRAM,
            ),
            args=OpenEscrowArgs(
                nonce=offered.nonce,
                class_id=terms.class_id,
                terms_hash=terms.terms_hash,
                ceiling_price=offered.ceiling_price,
                deposit=offered.deposit,
                max_time=terms.max_time_ms,
                attempts_allowed=offered.attempts_allowed,
            ),
        )
        self._compare(call, expected)
        moved = 0
        if any(isinstance(c, Deposit) for c in calls):
            gap = self._only(calls, Deposit)
            self._at_most("its deposit into the vault", gap.args.amount, offered.deposit)
            self._compare(gap, self._deposit(gap.args.amount))
            moved = gap.args.amount
        added = f", moving {self._text(moved)} into the vault first" if moved else ""
        return self._checked(
            transaction, f"opens escrow {escrow} of {self._text(offered.deposit)}{added}", escrow=str(escrow)
        )

    # taking apart

    def _take_apart(
        self, raw: bytes, *, may_create_own_account: bool = False
    ) -> tuple[VersionedTransaction, tuple[_Step, ...]]:
        transaction = _parse(raw)
        message = transaction.message
        keys = message.account_keys
        if not keys or keys[0] != self._wallet:
            payer = keys[0] if keys else "nobody"
            raise TransactionRefused(f"its fee payer is {payer}, not this wallet")
        if message.header.num_required_signatures != 1:
            others = ", ".join(str(key) for key in keys[1 : message.header.num_required_signatures])
            raise TransactionRefused(f"it needs the signature of somebody else too ({others})")
        if isinstance(message, MessageV0) and message.address_table_lookups:
            raise TransactionRefused("it takes addresses from a lookup table, which can't be checked here")
        if bytes(transaction) != raw:
            raise TransactionRefused("it has bytes behind its end")
        steps = []
        for compiled in message.instructions:
            try:
                program = keys[compiled.program_id_index]
                accounts = tuple(keys[index] for index in bytes(compiled.accounts))
            except IndexError:
                raise TransactionRefused("an instruction names an account that it doesn't list") from None
            step = self._step(program, accounts, bytes(compiled.data))
            if step.call is not None:
                steps.append(step)
            elif may_create_own_account and self._creates_own_account(step):
                continue
            elif program != COMPUTE_BUDGET_PROGRAM:
                raise TransactionRefused(f"it calls program {program}, which this request doesn't need")
        self._check_budget(message.instructions, keys)
        return transaction, tuple(steps)

    def _step(self, program: Pubkey, accounts: tuple[Pubkey, ...], data: bytes) -> _Step:
        if program != self._market.program:
            return _Step(program, accounts, data, None)
        try:
            return _Step(program, accounts, data, self._codec.read_instruction(accounts, data))
        except UnsupportedTransaction as error:
            raise TransactionRefused(f"it holds an instruction that can't be read: {error}") from error

    def _creates_own_account(self, step: _Step) -> bool:
        if step.program != ASSOCIATED_TOKEN_PROGRAM:
            return False
        expected = create_token_account(self._wallet, self._wallet, self._market.mint)
        accounts = tuple(meta.pubkey for meta in expected.accounts)
        return step.accounts == accounts and step.data == bytes(expected.data)

    def _check_budget(self, instructions: Sequence[object], keys: Sequence[Pubkey]) -> None:
        """The priority fee leaves the wallet with no trace in any argument of ours: it is bounded."""
        limit, price, seen = _MAX_COMPUTE_UNITS, 0, set()
        for compiled in instructions:
            if keys[compiled.program_id_index] != COMPUTE_BUDGET_PROGRAM:  # type: ignore[attr-defined]
                continue
            data = bytes(compiled.data)  # type: ignore[attr-defined]
            kind = data[0] if data else None
            if kind in seen:
                raise TransactionRefused("it sets its compute budget twice")
            seen.add(kind)
            if kind == _SET_LIMIT and len(data) == 5:
                limit = min(int.from_bytes(data[1:], "little"), _MAX_COMPUTE_UNITS)
            elif kind == _SET_PRICE and len(data) == 9:
                price = int.from_bytes(data[1:], "little")
            else:
                raise TransactionRefused("it asks for something of the compute budget that this request doesn't need")
        fee = -(-price * limit // _MICRO)
        if fee > MAX_PRIORITY_FEE_LAMPORTS:
            raise TransactionRefused(
                f"its priority fee is {_sol(fee)} SOL, more than {_sol(MAX_PRIORITY_FEE_LAMPORTS)} SOL"
            )

    # comparing

    def _calls(
        self, steps: tuple[_Step, ...], allowed: tuple[type[ProgramInstruction], ...]
    ) -> list[ProgramInstruction]:
        calls = [step.call for step in steps if step.call is not None]
        for call in calls:
            if not isinstance(call, allowed):
                raise TransactionRefused(f"it also does `{call.name}`, which was not asked for")
            if sum(1 for other in calls if other.name == call.name) > 1:
                raise TransactionRefused(f"it does `{call.name}` more than once")
            if isinstance(call, OpenVault):
                self._compare(call, self._open_vault())
        return calls

    def _only(self, calls: Sequence[ProgramInstruction], kind: type[_Call]) -> _Call:
        for call in calls:
            if isinstance(call, kind):
                return call
        raise TransactionRefused(f"it doesn't do `{kind.name}`, which was asked for")

    def _compare(self, offered: ProgramInstruction, expected: ProgramInstruction) -> None:
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

    # what we build ourselves

    def _open_vault(self) -> OpenVault:
        return OpenVault(
            accounts=OpenVaultAccounts(
                payer=self._wallet,
                wallet=self._wallet,
                config=self._at.config(),
                vault=self._vault,
                vault_tokens=self._at.vault_tokens(self._vault),
                payment_mint=self._market.mint,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            )
        )

    def _deposit(self, amount: int) -> Deposit:
        return Deposit(
            accounts=DepositAccounts(
                depositor=self._wallet,
                vault=self._vault,
                source=self._tokens,
                vault_tokens=self._at.vault_tokens(self._vault),
                token_program=TOKEN_PROGRAM,
            ),
            args=DepositArgs(amount=amount),
        )

    def _checked(
        self, transaction: VersionedTransaction, summary: str, escrow: str | None = None
    ) -> CheckedTransaction:
        return CheckedTransaction(summary=summary, _transaction=transaction, _wallet=self._wallet, escrow=escrow)

    def _text(self, amount: int) -> str:
        return format_amount(amount, self._market.decimals)


def _parse(raw: bytes) -> VersionedTransaction:
    if len(raw) > _MAX_TRANSACTION_BYTES:
        raise TransactionRefused(f"it has {len(raw)} bytes; a legacy or v0 transaction has at most 1,232")
    try:
        return VersionedTransaction.from_bytes(raw)
    except ValueError as error:
        raise TransactionRefused("it is not a legacy or v0 transaction") from error


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "none" if value is None else str(value)


def _sol(lamports: int) -> str:
    return format(Decimal(lamports) / 10**9, "f")
