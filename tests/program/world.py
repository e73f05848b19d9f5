"""A chain in this process with the real program on it, and short ways to fund, send and read.

Everything is sent as real transactions through the real virtual machine; only mints and token accounts of
outsiders are written directly.
"""

import hashlib
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from solders.account import Account
from solders.compute_budget import set_compute_unit_limit
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction
from solders.transaction_metadata import FailedTransactionMetadata

from marketplace.chain.accounts import (
    AllowanceAccount,
    ConfigAccount,
    EscrowAccount,
    MarketAccount,
    NodeAccount,
    Params,
    PoolAccount,
    PositionAccount,
    TicketAccount,
    VaultAccount,
)
from marketplace.chain.addresses import TOKEN_PROGRAM, associated_token_address, class_id
from marketplace.chain.builders import CallBuilder, Deployment
from marketplace.chain.ed25519 import SignatureCheck, verify_instruction
from marketplace.chain.instructions import ProgramInstruction
from marketplace.chain.program import AnchorCodec

ROOT = Path(__file__).parents[2]
PROGRAM = Keypair.from_seed(hashlib.sha256(b"tests/program").digest()).pubkey()
ADMIN = Keypair.from_seed(hashlib.sha256(b"reaver-market/localnet/admin").digest())
GENESIS = hashlib.sha256(b"tests/genesis").digest()
START_S = 1_770_000_000
EPOCH_MS = 20_000
CPU = class_id("cpu-small")
GPU = class_id("a100")
BOND = 50_000_000
HOUR = 3_600_000

PARAMS = Params(
    exposure_rate=1_000_000,
    exposure_multiple=10,
    protocol_bps=100,
    max_market_bps=2_000,
    node_share_bps=5_000,
    compensation_bps=2_000,
    overclaim_bps=2_000,
    slash_cap_bps=5_000,
    decay_bps=10,
    emission_cap_bps=10_000,
    commission_step_bps=500,
    lost_after=6_000,
    ready_limit=60_000,
    claim_limit=30_000,
    skew=2_000,
    contest=5_000,
    reap_grace=10_000,
    queue_limit=600_000,
    stop_after=300_000,
    unbonding=60_000,
    commission_delay=20_000,
    fee_delay=20_000,
    minimum_deposit=1_000,
)
"""The localnet's column of program.md section 8."""

_STRUCTS = {
    entry["name"]: [(field["name"], field["type"]) for field in entry["type"]["fields"]]
    for entry in json.loads((ROOT / "programs_idl/reaver_market.json").read_text())["types"]
}
_SIZES = {"u8": 1, "bool": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8, "u128": 16, "pubkey": 32}

AccountT = TypeVar("AccountT")
Part = ProgramInstruction | SignatureCheck | Instruction


class Refused(Exception):
    """A transaction failed. name: our program's error, or what the runtime calls it."""

    def __init__(self, name: str, logs: list[str]) -> None:
        super().__init__(f"{name}\n" + "\n".join(logs))
        self.name = name


class refused:  # noqa: N801 - reads as a sentence
    """`with refused("Name"):` exactly that refusal, and nothing else."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        assert kind is not None, f"{self.name} was expected, nothing was refused"
        if not issubclass(kind, Refused):
            return False
        assert error.name == self.name, error
        return True


def program_path() -> Path:
    """The program under test: the fresh build that scripts/test names, else the committed one."""
    return Path(os.environ.get("REAVER_PROGRAM", ROOT / "programs/deploy/reaver_market.so"))


def key(name: str) -> Keypair:
    """A keypair that is the same in every run."""
    return Keypair.from_seed(hashlib.sha256(name.encode()).digest())


UPGRADEABLE_LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")


@dataclass
class World:
    """One deployment with a market (`authority`, `matcher`, `meter`), classes cpu-small and a100."""

    svm: LiteSVM
    codec: AnchorCodec
    build: CallBuilder
    now_ms: int = START_S * 1000
    units: dict[str, list[int]] = field(default_factory=dict)
    last_logs: list[str] = field(default_factory=list)

    authority: Keypair = field(default_factory=lambda: key("market authority"))
    matcher: Keypair = field(default_factory=lambda: key("matcher"))
    meter: Keypair = field(default_factory=lambda: key("meter"))
    payer: Keypair = field(default_factory=lambda: key("payer"))

    # time

    def pass_ms(self, span: int) -> None:
        """Moves chain time forward; the clock sysvar counts whole seconds."""
        self.now_ms += span
        clock = self.svm.get_clock()
        clock.unix_timestamp = self.now_ms // 1000
        self.svm.set_clock(clock)

    @property
    def chain_ms(self) -> int:
        """What the program sees as now."""
        return self.now_ms // 1000 * 1000

    # sending

    def instruction(self, part: Part) -> Instruction:
        if isinstance(part, SignatureCheck):
            return verify_instruction(part)
        if isinstance(part, ProgramInstruction):
            return self.codec.instruction(part)
        return part

    def send(self, *parts: Part, signers: Sequence[Keypair], label: str | None = None):
        """Sends one transaction, the first signer paying; events of our program. Raises Refused."""
        self.svm.expire_blockhash()
        limit = set_compute_unit_limit(400_000)
        # the limit goes last: precompile instructions are named by their index
        instructions = [*(self.instruction(p) for p in parts), limit]
        message = Message.new_with_blockhash(instructions, signers[0].pubkey(), self.svm.latest_blockhash())
        transaction = Transaction(list(signers), message, self.svm.latest_blockhash())
        assert len(bytes(transaction)) <= 1_232, "the transaction is too large for the network"
        result = self.svm.send_transaction(transaction)
        if isinstance(result, FailedTransactionMetadata):
            raise Refused(self.name_of(result), result.meta().logs())
        self.last_logs = result.logs()
        if label is not None:
            self.units.setdefault(label, []).append(result.compute_units_consumed())
        return self.events()

    def name_of(self, failed: FailedTransactionMetadata) -> str:
        """Our program's error, or what the runtime calls it."""
        inner = getattr(failed.err(), "err", failed.err())
        number = getattr(inner, "code", None)
        if number is not None:
            return self.codec.error_name(number) or f"Custom({number})"
        return str(inner).rsplit(".", maxsplit=1)[-1]

    def events(self) -> list[object]:
        """Events of the last transaction."""
        import base64

        found = (
            self.codec.event(base64.b64decode(line[14:]))
            for line in self.last_logs
            if line.startswith("Program data: ")
        )
        return [event for event in found if event is not None]

    # reading

    def read(self, kind: type[AccountT], address: Pubkey) -> AccountT:
        account = self.svm.get_account(address)
        assert account is not None, f"no {kind.__name__} at {address}"
        assert account.owner == PROGRAM
        return self.codec.account_data(kind, bytes(account.data))

    def exists(self, address: Pubkey) -> bool:
        account = self.svm.get_account(address)
        return account is not None and account.lamports > 0

    @property
    def market(self) -> Pubkey:
        return self.build.addresses.market(self.authority.pubkey())

    def config(self) -> ConfigAccount:
        return self.read(ConfigAccount, self.build.addresses.config())

    def market_account(self) -> MarketAccount:
        return self.read(MarketAccount, self.market)

    def vault(self, wallet: Keypair) -> VaultAccount:
        return self.read(VaultAccount, self.build.addresses.vault(wallet.pubkey()))

    def allowance(self, wallet: Keypair) -> AllowanceAccount:
        return self.read(AllowanceAccount, self.build.addresses.allowance(wallet.pubkey(), self.market))

    def escrow(self, address: Pubkey) -> EscrowAccount:
        return self.read(EscrowAccount, address)

    def node(self, node_key: Keypair) -> NodeAccount:
        return self.read(NodeAccount, self.build.addresses.node(node_key.pubkey()))

    def pool(self, node_key: Keypair) -> PoolAccount:
        return self.read(PoolAccount, self.build.addresses.pool(self.build.addresses.node(node_key.pubkey())))

    def position(self, node_key: Keypair, owner: Keypair) -> PositionAccount:
        pool = self.build.addresses.pool(self.build.addresses.node(node_key.pubkey()))
        return self.read(PositionAccount, self.build.addresses.position(pool, owner.pubkey()))

    def ticket(self, node_key: Keypair, owner: Keypair, index: int) -> TicketAccount:
        pool = self.build.addresses.pool(self.build.addresses.node(node_key.pubkey()))
        position = self.build.addresses.position(pool, owner.pubkey())
        return self.read(TicketAccount, self.build.addresses.ticket(position, index))

    def tokens(self, address: Pubkey) -> int:
        """Balance of a token account."""
        account = self.svm.get_account(address)
        assert account is not None
        return int(struct.unpack_from("<Q", bytes(account.data), 64)[0])

    def payment_account(self, owner: Pubkey) -> Pubkey:
        return associated_token_address(owner, self.build.deployment.payment_mint)

    def stake_account(self, owner: Pubkey) -> Pubkey:
        return associated_token_address(owner, self.build.deployment.stake_mint)

    def vault_tokens(self, wallet: Pubkey) -> Pubkey:
        return self.build.addresses.vault_tokens(self.build.addresses.vault(wallet))

    # outsiders

    def put_mint(self, address: Pubkey, *, owner: Pubkey = TOKEN_PROGRAM) -> None:
        data = struct.pack("<I32sQBBI32s", 1, bytes(self.payer.pubkey()), 10**15, 6, 1, 0, bytes(32))
        self._put(address, data, owner)

    def put_token(
        self,
        address: Pubkey,
        mint: Pubkey,
        owner: Pubkey,
        amount: int = 0,
        *,
        state: int = 1,
        delegate: Pubkey | None = None,
        close_authority: Pubkey | None = None,
    ) -> Pubkey:
        """A token account as it is. state: 0 uninitialized, 1 initialized, 2 frozen."""
        data = struct.pack(
            "<32s32sQI32sBIQQI32s",
            bytes(mint),
            bytes(owner),
            amount,
            int(delegate is not None),
            bytes(delegate or bytes(32)),
            state,
            0,
            0,
            0,
            int(close_authority is not None),
            bytes(close_authority or bytes(32)),
        )
        assert len(data) == 165
        self._put(address, data, TOKEN_PROGRAM)
        return address

    def _put(self, address: Pubkey, data: bytes, owner: Pubkey) -> None:
        rent = self.svm.minimum_balance_for_rent_exemption(len(data))
        self.svm.set_account(address, Account(rent, data, owner, False, 0))

    def copy_account(
        self, source: Pubkey, destination: Pubkey, *, owner: Pubkey | None = None, data: bytes | None = None
    ) -> None:
        """Writes a (forged) copy of an account elsewhere."""
        account = self.svm.get_account(source)
        assert account is not None
        content = bytes(account.data) if data is None else data
        self._put(destination, content, owner or account.owner)

    def write(self, name: str, address: Pubkey, values: dict[str, int | bytes]) -> None:
        """Changes fields of one of the program's accounts in place: for states that are far away, or can't be.

        name: the account's type in the IDL. A field inside another is named with dots: `epochs.0.well`.
        """
        account = self.svm.get_account(address)
        assert account is not None
        data = bytearray(account.data)
        for path, value in values.items():
            start, length = _place(name, path)
            start += 8  # behind the discriminator
            data[start : start + length] = value if isinstance(value, bytes) else value.to_bytes(length, "little")
        self.svm.set_account(address, Account(account.lamports, bytes(data), account.owner, account.executable, 0))

    def fund(self, who: Pubkey, *, sol: int = 100, payment: int = 0, stake: int = 0) -> None:
        """SOL and token accounts of an outsider."""
        self.svm.airdrop(who, sol * 10**9)
        self.put_token(self.payment_account(who), self.build.deployment.payment_mint, who, payment)
        self.put_token(self.stake_account(who), self.build.deployment.stake_mint, who, stake)

    def renter(self, name: str, *, payment: int = 10**9, vault: int = 0) -> Keypair:
        """A funded wallet, with an open vault when `vault` is deposited."""
        wallet = key(name)
        self.fund(wallet.pubkey(), payment=payment)
        if vault:
            self.send(
                self.build.open_vault(wallet.pubkey(), wallet.pubkey()),
                self.build.deposit(wallet.pubkey(), wallet.pubkey(), vault),
                signers=[wallet],
            )
        return wallet

    def operator(
        self, name: str, *, bond: int = BOND, commission_bps: int = 0, identifier: bytes = CPU
    ) -> tuple[Keypair, Keypair]:
        """(operator, node key) of a registered node."""
        operator, node_key = key(f"operator {name}"), key(f"node {name}")
        self.fund(operator.pubkey(), stake=10 * bond)
        self.send(
            self.build.register_node(
                operator.pubkey(), node_key.pubkey(), self.market, identifier, bond, commission_bps
            ),
            signers=[operator, node_key],
            label="register_node",
        )
        return operator, node_key


def size_of(kind: object) -> int:
    """Bytes of a type of the IDL."""
    if isinstance(kind, str):
        return _SIZES[kind]
    assert isinstance(kind, dict)
    if "array" in kind:
        inner, count = kind["array"]
        return size_of(inner) * int(count)
    return sum(size_of(inner) for _, inner in _STRUCTS[kind["defined"]["name"]])


def _place(name: str, path: str) -> tuple[int, int]:
    """(offset, size) of a field."""
    first, _, rest = path.partition(".")
    names = [field for field, _ in _STRUCTS[name]]
    position = names.index(first)
    start = sum(size_of(kind) for _, kind in _STRUCTS[name][:position])
    kind = _STRUCTS[name][position][1]
    if rest and "array" in kind:
        inner, _ = kind["array"]
        index, _, rest = rest.partition(".")
        start, kind = start + int(index) * size_of(inner), inner
    if not rest:
        return start, size_of(kind)
    offset, size = _place(kind["defined"]["name"], rest)
    return start + offset, size


def bare_world() -> World:
    """The program and two mints, nothing initialized."""
    svm = LiteSVM()
    svm.add_program_from_file(PROGRAM, str(program_path()))
    deployment = Deployment(
        program=PROGRAM,
        genesis_hash=GENESIS,
        payment_mint=key("payment mint").pubkey(),
        stake_mint=key("stake mint").pubkey(),
        payment_decimals=6,
        stake_decimals=6,
    )
    world = World(svm, AnchorCodec(PROGRAM), CallBuilder(deployment))
    world.pass_ms(0)
    world.put_mint(deployment.payment_mint)
    world.put_mint(deployment.stake_mint)
    for who in (world.payer, world.authority, world.matcher, world.meter, ADMIN):
        world.svm.airdrop(who.pubkey(), 10**12)
    world.put_token(key("protocol token").pubkey(), deployment.payment_mint, ADMIN.pubkey())
    return world


def program_data(world: World) -> Pubkey | None:
    """Where the program's binary lies, where it can be upgraded: newer virtual machines deploy it so."""
    program = world.svm.get_account(PROGRAM)
    assert program is not None
    if program.owner != UPGRADEABLE_LOADER:
        return None
    return Pubkey.find_program_address([bytes(PROGRAM)], UPGRADEABLE_LOADER)[0]


def initialize(world: World, *, params: Params = PARAMS, epoch_ms: int = EPOCH_MS, first_emission: int = 0) -> None:
    world.send(
        world.build.initialize(
            world.payer.pubkey(),
            ADMIN.pubkey(),
            key("protocol token").pubkey(),
            program_data(world),
            params,
            epoch_ms,
            first_emission,
        ),
        signers=[world.payer, ADMIN],
        label="initialize",
    )


def new_world(*, params: Params = PARAMS, fee_bps: int = 400, first_emission: int = 0) -> World:
    """A deployment with classes and a market, ready for renters and operators."""
    world = bare_world()
    initialize(world, params=params, first_emission=first_emission)
    admin = ADMIN.pubkey()
    for identifier, bond in ((CPU, BOND), (GPU, 40 * BOND)):
        world.send(
            world.build.set_class(world.payer.pubkey(), admin, identifier, bond, enabled=True),
            signers=[world.payer, ADMIN],
        )
    world.send(
        world.build.register_market(
            world.payer.pubkey(), world.authority.pubkey(), world.matcher.pubkey(), world.meter.pubkey(), fee_bps
        ),
        signers=[world.payer, world.authority],
        label="register_market",
    )
    return world


def with_account(call: ProgramInstruction, **changes: Pubkey | None) -> ProgramInstruction:
    """The same call with other accounts in named places."""
    return replace(call, accounts=replace(call.accounts, **changes))


def with_args(call: ProgramInstruction, **changes: object) -> ProgramInstruction:
    """The same call with other arguments."""
    return replace(call, args=replace(call.args, **changes))


def unsigned(instruction: Instruction, who: Pubkey) -> Instruction:
    """The same instruction with a key that does not sign."""
    metas = [AccountMeta(m.pubkey, m.is_signer and m.pubkey != who, m.is_writable) for m in instruction.accounts]
    return Instruction(instruction.program_id, instruction.data, metas)


def read_only(instruction: Instruction, index: int) -> Instruction:
    """The same instruction with the account at `index` passed as read-only."""
    metas = [
        AccountMeta(m.pubkey, m.is_signer, m.is_writable and n != index) for n, m in enumerate(instruction.accounts)
    ]
    return Instruction(instruction.program_id, instruction.data, metas)
