"""The same little world on a chain: wallets, a mint, token accounts, a lookup table, and transactions of each kind.

Keys come from fixed seeds, so that addresses are equal on every chain. What can't be equal (signatures, blockhashes,
the lookup table's address) is known by name, and comparisons see the name.
"""

import base64
import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction
from spl.token.instructions import (
    ApproveParams,
    InitializeMintParams,
    MintToParams,
    TransferCheckedParams,
    approve,
    create_idempotent_associated_token_account,
    get_associated_token_address,
    initialize_mint,
    mint_to,
    transfer_checked,
)

from tests.conformance.chains import Chain

TOKENS = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
LOOKUP = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
ASSOCIATED = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
RENT = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
CONFIRMED = {"commitment": "confirmed"}
SEND = {"encoding": "base64", "preflightCommitment": "confirmed"}


def key(name: str) -> Keypair:
    return Keypair.from_seed(hashlib.sha256(b"conformance " + name.encode()).digest())


@dataclass
class World:
    """What the cases ask about. labels: what differs between chains, and its name."""

    chain: Chain
    payer: Keypair = field(default_factory=lambda: key("payer"))
    friend: Keypair = field(default_factory=lambda: key("friend"))
    delegate: Keypair = field(default_factory=lambda: key("delegate"))
    mint: Keypair = field(default_factory=lambda: key("mint"))
    nobody: Pubkey = field(default_factory=lambda: key("nobody").pubkey())
    table: Pubkey = SYSTEM
    signatures: dict[str, str] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    wires: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def holding(self) -> Pubkey:
        """The payer's token account."""
        return get_associated_token_address(self.payer.pubkey(), self.mint.pubkey())

    @property
    def friend_holding(self) -> Pubkey:
        return get_associated_token_address(self.friend.pubkey(), self.mint.pubkey())

    def recent(self) -> Hash:
        text = self.chain.value("getLatestBlockhash", CONFIRMED)["blockhash"]
        self.labels[text] = "<blockhash>"
        return Hash.from_string(text)

    def signed(
        self,
        *instructions: Instruction,
        signers: tuple[Keypair, ...] = (),
        legacy: bool = False,
        tables: tuple[AddressLookupTableAccount, ...] = (),
        blockhash: Hash | None = None,
    ) -> VersionedTransaction:
        recent = blockhash if blockhash is not None else self.recent()
        message: Message | MessageV0
        if legacy:
            message = Message.new_with_blockhash(list(instructions), self.payer.pubkey(), recent)
        else:
            message = MessageV0.try_compile(self.payer.pubkey(), list(instructions), list(tables), recent)
        return VersionedTransaction(message, [self.payer, *signers])

    def send(self, name: str, transaction: VersionedTransaction, **config: Any) -> None:
        """Send it and wait until it is confirmed; later asked for by its name."""
        signature = self.chain.result("sendTransaction", as_base64(transaction), {**SEND, **config})
        self.signatures[name] = signature
        for number, each in enumerate(transaction.signatures):
            self.labels[str(each)] = f"<signature {number} of {name}>"
        self.wires[name] = as_base64(transaction)
        self.slots[name] = self.chain.landed(signature)["slot"]

    def settle(self) -> None:
        """Wait until all that happened is final."""
        slot = self.chain.result("getSlot", {"commitment": "processed"})
        self.chain.until("finality", lambda: self.chain.result("getSlot", {"commitment": "finalized"}) >= slot)

    def pay(self, lamports: int, to: Pubkey | None = None) -> Instruction:
        target = to if to is not None else self.friend.pubkey()
        return transfer(TransferParams(from_pubkey=self.payer.pubkey(), to_pubkey=target, lamports=lamports))


def as_base64(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()


def build(chain: Chain) -> World:
    """Make the world on a fresh chain."""
    world = World(chain)
    world.labels[chain.result("getIdentity")["identity"]] = "<node>"
    payer, friend, mint = world.payer.pubkey(), world.friend.pubkey(), world.mint.pubkey()
    airdrop = chain.result("requestAirdrop", str(payer), 10**10)
    world.labels[airdrop] = "<signature of airdrop>"
    chain.landed(airdrop)
    rent = chain.result("getMinimumBalanceForRentExemption", 82)
    made = CreateAccountParams(from_pubkey=payer, to_pubkey=mint, lamports=rent, space=82, owner=TOKENS)
    world.send(
        "tokens",
        world.signed(
            create_account(made),
            initialize_mint(InitializeMintParams(6, TOKENS, mint, payer, payer)),
            create_idempotent_associated_token_account(payer, payer, mint),
            create_idempotent_associated_token_account(payer, friend, mint),
            mint_to(MintToParams(TOKENS, mint, world.holding, payer, 5_250_000)),
            signers=(world.mint,),
            legacy=True,
        ),
    )
    world.send(
        "token transfer",
        world.signed(
            transfer_checked(
                TransferCheckedParams(TOKENS, world.holding, mint, world.friend_holding, payer, 1_000_000, 6)
            ),
            approve(ApproveParams(TOKENS, world.holding, world.delegate.pubkey(), payer, 70)),
        ),
    )
    world.send("transfer", world.signed(world.pay(10**7), legacy=True))
    world.send("memo", world.signed(Instruction(MEMO, "für dich".encode(), []), legacy=True))
    world.send("failed", world.signed(world.pay(10**17)), skipPreflight=True)
    for name, made in {
        "all of system": _all_of_system(world),
        **dict(zip(("all of tokens", "more of tokens"), _all_of_tokens(world), strict=True)),
        "all of others": _all_of_others(world),
    }.items():
        world.send(name, made, skipPreflight=True)
    _lookup_table(world)
    return world


def _lookup_table(world: World) -> None:
    """A table with the friend in it, used by a transfer as soon as the chain lets it."""
    chain, payer, friend = world.chain, world.payer.pubkey(), world.friend.pubkey()
    slot = chain.result("getSlot", {"commitment": "finalized"})
    if slot == 0:
        slot = chain.until("a final slot", lambda: chain.result("getSlot", {"commitment": "finalized"}))
    world.table, bump = Pubkey.find_program_address([bytes(payer), struct.pack("<Q", slot)], LOOKUP)
    world.labels[str(world.table)] = "<lookup table>"
    metas = [
        AccountMeta(world.table, False, True),
        AccountMeta(payer, True, False),
        AccountMeta(payer, True, True),
        AccountMeta(SYSTEM, False, False),
    ]
    listed = [friend, SYSTEM]
    create = Instruction(LOOKUP, struct.pack("<IQB", 0, slot, bump), metas)
    extend = Instruction(LOOKUP, struct.pack("<IQ", 2, len(listed)) + b"".join(map(bytes, listed)), metas)
    world.send("table", world.signed(create, extend, legacy=True))
    extended = world.slots["table"]
    chain.until("a later slot", lambda: chain.result("getSlot", CONFIRMED) > extended)
    table = AddressLookupTableAccount(world.table, listed)
    world.send("looked up", world.signed(world.pay(10**6), tables=(table,)))


def _all_of_system(world: World) -> VersionedTransaction:
    """Every instruction of the system program, to see each in words; the first one fails."""
    payer, friend = world.payer.pubkey(), world.friend.pubkey()
    blockhashes = Pubkey.from_string("SysvarRecentB1ockHashes11111111111111111111")
    seed = struct.pack("<Q", 4) + b"seed"

    def made(tag: int, data: bytes, *others: Pubkey) -> Instruction:
        metas = [AccountMeta(payer, True, True), *(AccountMeta(each, False, True) for each in others)]
        return Instruction(SYSTEM, struct.pack("<I", tag) + data, metas)

    owner = bytes(TOKENS)
    return world.signed(
        world.pay(10**17),
        made(1, owner),
        made(3, bytes(payer) + seed + struct.pack("<QQ", 5, 6) + owner, friend),
        made(4, b"", blockhashes, friend),
        made(5, struct.pack("<Q", 9), friend, blockhashes, RENT, payer),
        made(6, bytes(friend), blockhashes, RENT),
        made(7, bytes(friend), friend),
        made(8, struct.pack("<Q", 77)),
        made(9, bytes(payer) + seed + struct.pack("<Q", 6) + owner, friend),
        made(10, bytes(payer) + seed + owner, friend),
        made(11, struct.pack("<Q", 5) + seed + owner, friend, friend),
        made(12, b""),
        made(13, b"", friend),  # unknown: shown as bytes
        made(0, b"\x01"),  # cut short
        legacy=True,
    )


def _all_of_tokens(world: World) -> tuple[VersionedTransaction, ...]:
    """Every instruction of the classic token program, likewise."""
    payer, friend, mint, holding = world.payer.pubkey(), world.friend.pubkey(), world.mint.pubkey(), world.holding
    key, one = bytes(friend), struct.pack("<Q", 1_500_000)

    def made(tag: int, data: bytes, *accounts: Pubkey) -> Instruction:
        return Instruction(TOKENS, bytes([tag]) + data, [AccountMeta(each, False, True) for each in accounts])

    first = world.signed(
        made(3, one, holding, world.friend_holding, friend),
        made(0, b"\x06" + key + b"\0", mint, RENT),
        made(0, b"\x06" + key + b"\x01" + key, mint, RENT),
        made(1, b"", holding, mint, payer, RENT),
        made(2, b"\x02", holding, RENT, payer, friend),
        made(3, one, holding, world.friend_holding, mint, payer, friend),
        made(4, one, holding, friend, payer),
        made(5, b"", holding, payer),
        made(6, b"\0\x01" + key, mint, payer),
        made(6, b"\x02\0", holding, payer),
        made(6, b"\x09\0", holding, payer),
        made(7, one, mint, holding, payer),
        made(8, one, holding, mint, payer),
        made(9, b"", holding, friend, payer),
        made(10, b"", holding, mint, payer),
        made(11, b"", holding, mint, payer, friend),
    )
    second = world.signed(
        made(12, one + b"\x06", holding, mint, world.friend_holding, friend),
        made(12, one + b"\x06", holding, mint, world.friend_holding, mint, payer, friend),
        made(13, one + b"\x06", holding, mint, friend, payer),
        made(14, one + b"\0", mint, holding, payer),
        made(15, one + b"\x06", holding, mint, payer),
        made(16, key, holding, mint, RENT),
        made(17, b"", holding),
        made(18, key, holding, mint),
        made(19, b"\x01", holding, payer, friend),
        made(20, b"\x06" + key + b"\0", mint),
        made(21, b"", mint),
        made(21, b"\x07\0", mint),
        made(22, b"", holding),
        made(23, one, mint),
        made(24, b"1.5", mint),
        made(25, b"", mint),
        made(12, one, holding, mint, payer),
    )
    return first, second


def _all_of_others(world: World) -> VersionedTransaction:
    """Instructions of the associated token and lookup table programs that the rest doesn't have."""
    payer, friend, mint = world.payer.pubkey(), world.friend.pubkey(), world.mint.pubkey()

    def made(program: Pubkey, data: bytes, *accounts: Pubkey) -> Instruction:
        return Instruction(program, data, [AccountMeta(each, False, True) for each in accounts])

    created = (payer, world.holding, payer, mint, SYSTEM, TOKENS)
    return world.signed(
        made(LOOKUP, struct.pack("<I", 1), friend, payer),
        made(LOOKUP, struct.pack("<IQ", 2, 1) + bytes(friend), friend, payer),
        made(LOOKUP, struct.pack("<I", 3), friend, payer),
        made(LOOKUP, struct.pack("<I", 4), friend, payer, mint),
        made(LOOKUP, struct.pack("<I", 9), friend, payer),
        made(ASSOCIATED, b"", *created),
        made(ASSOCIATED, b"\0", *created),
        made(ASSOCIATED, b"\x02", world.holding, mint, friend, world.friend_holding, mint, payer, TOKENS),
        made(ASSOCIATED, b"\x07", *created),
        Instruction(MEMO, b"\xff\xfe", []),
    )
