"""The program's bytes: the one module that imports anchorpy, solana and spl.

Behind it stand the frozen dataclasses of `instructions`, `accounts` and `events`; nothing of the libraries'
types leaves. The layouts come from the committed IDL (legacy form); golden bytes in tests/golden hold them,
so that another coder could take this module's place.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints

from anchorpy.coder.accounts import AccountsCoder
from anchorpy.coder.event import EventCoder
from anchorpy.coder.instruction import InstructionCoder
from anchorpy_core.idl import Idl
from construct import ConstructError
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, create_account
from spl.token import instructions as spl_token
from spl.token.constants import MINT_LEN

from marketplace.chain.accounts import ACCOUNT_TYPES
from marketplace.chain.addresses import TOKEN_PROGRAM
from marketplace.chain.answers import AccountInfo
from marketplace.chain.errors import AccountMismatch, UnsupportedTransaction
from marketplace.chain.events import EVENT_TYPES, ProgramEvent
from marketplace.chain.instructions import INSTRUCTION_TYPES, ProgramInstruction

IDL_NAME: Final = "reaver_market.legacy.json"
# Specified (program.md, section 1): the layout version that this release reads and writes.
ACCOUNT_VERSION: Final = 1
DISCRIMINATOR_BYTES: Final = 8
# Specified: the SPL token program's account and its field for the state.
TOKEN_ACCOUNT_BYTES: Final = 165
MINT_BYTES: Final = MINT_LEN

AccountT = TypeVar("AccountT")


class ProgramCodec(Protocol):
    """What the rest of `chain` needs of the program's bytes."""

    def instruction(self, call: ProgramInstruction) -> Instruction: ...

    def read_instruction(self, accounts: Sequence[Pubkey], data: bytes) -> ProgramInstruction: ...

    def account(self, kind: type[AccountT], info: AccountInfo) -> AccountT: ...

    def event(self, data: bytes) -> ProgramEvent | None: ...

    def error_name(self, number: int) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _AccountFlags:
    name: str
    signer: bool
    writable: bool
    optional: bool


@dataclass(frozen=True, slots=True)
class _Coders:
    """The IDL, read once per process."""

    accounts: AccountsCoder
    events: EventCoder
    instructions: InstructionCoder
    flags: Mapping[str, tuple[_AccountFlags, ...]]
    errors: Mapping[int, str]
    messages: Mapping[str, str]


class AnchorCodec:
    """ProgramCodec by anchorpy's coders, for the program at one address."""

    def __init__(self, program: Pubkey) -> None:
        self.program = program
        self._coders = _load()

    def instruction(self, call: ProgramInstruction) -> Instruction:
        """The wire form of a call; an optional account that is None is given as the program, as Anchor does."""
        name = call.name
        metas = []
        for flags in self._coders.flags[name]:
            key: Pubkey | None = getattr(call.accounts, flags.name)
            if key is None:
                metas.append(AccountMeta(self.program, is_signer=False, is_writable=False))
            else:
                metas.append(AccountMeta(key, is_signer=flags.signer, is_writable=flags.writable))
        arguments = {field.name: getattr(call.args, field.name) for field in fields(call.args)}
        return Instruction(self.program, self._coders.instructions.encode(name, arguments), metas)

    def read_instruction(self, accounts: Sequence[Pubkey], data: bytes) -> ProgramInstruction:
        """The call inside an instruction of our program.

        Raises UnsupportedTransaction for an unknown instruction, another number of accounts, or arguments
        that aren't exactly the declared ones (bytes behind them too).
        """
        coder = self._coders.instructions
        name = coder.sighash_to_name.get(bytes(data[:DISCRIMINATOR_BYTES]))
        if name is None or name not in INSTRUCTION_TYPES:
            raise UnsupportedTransaction("an instruction of our program that this version doesn't know")
        kind: type[Any] = INSTRUCTION_TYPES[name]
        flags = self._coders.flags[name]
        if len(accounts) != len(flags):
            raise UnsupportedTransaction(f"{name} with {len(accounts)} accounts, it takes {len(flags)}")
        keys = {
            entry.name: None if entry.optional and key == self.program else key
            for entry, key in zip(flags, accounts, strict=True)
        }
        try:
            parsed = coder.parse(bytes(data)).data
            call: ProgramInstruction = kind(accounts=kind.ACCOUNTS(**keys), args=_inward(kind.ARGS, parsed))
        except (ConstructError, ValueError, UnicodeDecodeError) as error:
            raise UnsupportedTransaction(f"{name} with arguments that can't be read") from error
        if bytes(self.instruction(call).data) != bytes(data):
            raise UnsupportedTransaction(f"{name} with more than its arguments")
        return call

    def instruction_name(self, data: bytes) -> str | None:
        """Which of the program's instructions this is, in the IDL's words; None for none of this version's."""
        name: str | None = self._coders.instructions.sighash_to_name.get(bytes(data[:DISCRIMINATOR_BYTES]))
        return name

    def account(self, kind: type[AccountT], info: AccountInfo) -> AccountT:
        """The account's content as `kind` (one of accounts.ACCOUNT_TYPES).

        Raises AccountMismatch unless owner, discriminator, length and version are exactly right.
        """
        if info.owner != self.program:
            raise AccountMismatch(f"{info.address} belongs to {info.owner}, not to the program")
        return self.account_data(kind, info.data, str(info.address))

    def account_data(self, kind: type[AccountT], data: bytes, where: str = "account") -> AccountT:
        """As `account`, for bytes whose owner is known."""
        name = _account_name(kind)
        coder = self._coders.accounts
        if data[:DISCRIMINATOR_BYTES] != coder.acc_name_to_discriminator[name]:
            raise AccountMismatch(f"{where} is no {name}")
        if len(data) != self.account_bytes(kind):
            raise AccountMismatch(f"{where}: a {name} of {len(data)} bytes")
        try:
            content = coder.decode(data)
        except (ConstructError, ValueError) as error:
            raise AccountMismatch(f"{where}: a {name} that can't be read") from error
        if content.version != ACCOUNT_VERSION:
            raise AccountMismatch(f"{where}: a {name} of version {content.version}")
        return cast("AccountT", _inward(kind, content))

    def account_bytes(self, kind: type[object]) -> int:
        """Exact size of such an account."""
        layout = self._coders.accounts._accounts_layout[_account_name(kind)]  # noqa: SLF001 - no public way
        return DISCRIMINATOR_BYTES + int(layout.sizeof())

    def account_discriminator(self, kind: type[object]) -> bytes:
        """The first eight bytes of such an account, for listings."""
        found: bytes = self._coders.accounts.acc_name_to_discriminator[_account_name(kind)]
        return found

    def event(self, data: bytes) -> ProgramEvent | None:
        """The event in one slice of our program's log data; None for one this version doesn't know."""
        coder = self._coders.events
        name = coder.discriminators.get(bytes(data[:DISCRIMINATOR_BYTES]))
        kind = EVENT_TYPES.get(name) if name is not None else None
        if name is None or kind is None:
            return None
        layout = coder.layouts[name]
        body = bytes(data[DISCRIMINATOR_BYTES:])
        try:
            if len(body) != layout.sizeof():
                return None
            return cast("ProgramEvent", _inward(kind, layout.parse(body)))
        except (ConstructError, ValueError):
            return None

    def error_name(self, number: int) -> str | None:
        """The program's name of an error number (`DepositTooSmall`), None if it isn't one of its own."""
        return self._coders.errors.get(number)

    def error_message(self, name: str) -> str | None:
        """The program's sentence about an error."""
        return self._coders.messages.get(name)


# SPL tokens: classic token program only


def create_token_account(payer: Pubkey, owner: Pubkey, mint: Pubkey) -> Instruction:
    """Create the owner's associated token account, or do nothing where it exists."""
    return spl_token.create_idempotent_associated_token_account(payer, owner, mint)


def transfer_tokens(
    source: Pubkey, mint: Pubkey, destination: Pubkey, owner: Pubkey, amount: int, decimals: int
) -> Instruction:
    """transfer_checked: mint and decimals are checked by the token program."""
    return spl_token.transfer_checked(
        spl_token.TransferCheckedParams(
            program_id=TOKEN_PROGRAM,
            source=source,
            mint=mint,
            dest=destination,
            owner=owner,
            amount=amount,
            decimals=decimals,
        )
    )


def create_mint(payer: Pubkey, mint: Pubkey, authority: Pubkey, decimals: int, rent_lamports: int) -> list[Instruction]:
    """A new mint without freeze authority: nobody can freeze a vault."""
    return [
        create_account(
            CreateAccountParams(
                from_pubkey=payer,
                to_pubkey=mint,
                lamports=rent_lamports,
                space=MINT_BYTES,
                owner=TOKEN_PROGRAM,
            )
        ),
        spl_token.initialize_mint(
            spl_token.InitializeMintParams(
                decimals=decimals, program_id=TOKEN_PROGRAM, mint=mint, mint_authority=authority
            )
        ),
    ]


def mint_tokens(mint: Pubkey, destination: Pubkey, authority: Pubkey, amount: int, decimals: int) -> Instruction:
    """New tokens, by the mint's authority."""
    return spl_token.mint_to_checked(
        spl_token.MintToCheckedParams(
            program_id=TOKEN_PROGRAM,
            mint=mint,
            dest=destination,
            mint_authority=authority,
            amount=amount,
            decimals=decimals,
        )
    )


# Between the coders' containers and our dataclasses


def idl_path() -> Path:
    """The legacy IDL: beside this module in an installed package, else in the repository's programs_idl."""
    packaged = Path(__file__).with_name("idl") / IDL_NAME
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "programs_idl" / IDL_NAME


@lru_cache(maxsize=1)
def _load() -> _Coders:
    text = idl_path().read_text()
    idl = Idl.from_json(text)
    document = json.loads(text)
    instructions = InstructionCoder(idl)
    names = {_camel(name): name for name in instructions.sighashes}
    return _Coders(
        accounts=AccountsCoder(idl),
        events=EventCoder(idl),
        instructions=instructions,
        flags={
            names[entry["name"]]: tuple(
                _AccountFlags(
                    name=_snake(account["name"]),
                    signer=bool(account["isSigner"]),
                    writable=bool(account["isMut"]),
                    optional=bool(account.get("isOptional", False)),
                )
                for account in entry["accounts"]
            )
            for entry in document["instructions"]
        },
        errors={entry["code"]: entry["name"] for entry in document["errors"]},
        messages={entry["name"]: entry.get("msg", "") for entry in document["errors"]},
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _account_name(kind: type[object]) -> str:
    for name, listed in ACCOUNT_TYPES.items():
        if listed is kind:
            return name
    raise TypeError(f"{kind.__name__} is no account of the program")


@lru_cache(maxsize=256)
def _types_of(kind: Hashable) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _inward(kind: Any, value: Any) -> Any:
    """A coder's value as our type: records become dataclasses, arrays of bytes bytes, hashes bytes.

    Integers keep their value; what the IDL calls a public key but names a hash is given as bytes.
    """
    if is_dataclass(kind):
        types = _types_of(cast("Hashable", kind))
        content = {field.name: _inward(types[field.name], getattr(value, field.name)) for field in fields(kind)}
        return cast("type[Any]", kind)(**content)
    if kind is bytes:
        return bytes(value)
    if get_origin(kind) is tuple:
        return tuple(_inward(get_args(kind)[0], item) for item in value)
    if kind is bool:
        return bool(value)
    return value if kind is Pubkey else kind(value)
