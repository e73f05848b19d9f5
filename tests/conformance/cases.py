"""The requests, good and bad, that both chains are asked. Each says what of the answer must be equal."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from solders.hash import Hash
from solders.keypair import Keypair
from spl.token.instructions import create_idempotent_associated_token_account

from tests.conformance.world import CONFIRMED, SEND, TOKENS, World, as_base64, key

SYSTEM = "11111111111111111111111111111111"
EPOCH_SCHEDULE = "SysvarEpochSchedu1e111111111111111111111111"
CLOCK = "SysvarC1ock11111111111111111111111111111111"
PROCESSED = {"commitment": "processed"}
V0 = {**CONFIRMED, "maxSupportedTransactionVersion": 0}
SIM = {**CONFIRMED, "encoding": "base64"}
FAR = 2**62


class Same(Enum):
    """What must be equal. An error's code, message and data always are; see `comparison.py` for what is masked."""

    VALUE = "value"
    SHAPE = "shape"  # names and types: the values are the chain's own


@dataclass(frozen=True)
class Case:
    name: str
    method: str
    params: Callable[[World], list[Any]]
    same: Same = Same.VALUE


def case(name: str, method: str, *params: Any) -> Case:
    """Parameters that are functions are asked of the world."""

    def made(world: World) -> list[Any]:
        return [each(world) if callable(each) else each for each in params]

    return Case(name, method, made)


def shape(name: str, method: str, *params: Any) -> Case:
    return Case(name, method, case(name, method, *params).params, Same.SHAPE)


def payer(world: World) -> str:
    return str(world.payer.pubkey())


def friend(world: World) -> str:
    return str(world.friend.pubkey())


def delegate(world: World) -> str:
    return str(world.delegate.pubkey())


def nobody(world: World) -> str:
    return str(world.nobody)


def mint(world: World) -> str:
    return str(world.mint.pubkey())


def holding(world: World) -> str:
    return str(world.holding)


def table(world: World) -> str:
    return str(world.table)


def sent(name: str) -> Callable[[World], str]:
    return lambda world: world.signatures[name]


def slot_of(name: str) -> Callable[[World], int]:
    return lambda world: world.slots[name]


def pay_unsigned(world: World) -> str:
    """A payment on a blockhash that nobody knows."""
    return as_base64(world.signed(world.pay(1), blockhash=Hash.default()))


def pay_too_much(world: World) -> str:
    return as_base64(world.signed(world.pay(10**17)))


def pay_dust(world: World) -> str:
    """To an account that it would leave below rent exemption."""
    return as_base64(world.signed(world.pay(1, world.nobody)))


def first_holding(world: World) -> str:
    """Makes an empty token account, and names one that isn't there yet."""
    made = create_idempotent_associated_token_account(world.payer.pubkey(), world.nobody, world.mint.pubkey())
    return as_base64(world.signed(made, blockhash=Hash.default()))


def wire(world: World) -> str:
    return world.wires["transfer"]


def pay_forged(world: World) -> str:
    good = world.signed(world.pay(7))
    return as_base64(type(good).populate(good.message, [Keypair.from_seed(b"f" * 32).sign_message(b"other")]))


def pay_twice(world: World) -> str:
    """One that has landed just now, so that its blockhash is still good."""
    world.send("again", world.signed(world.pay(10**6)))
    return world.wires["again"]


def after_a_payment(world: World) -> list[str]:
    """Nothing, said when there was a transaction a moment ago."""
    pay_twice(world)
    return []


def fresh_blockhash(world: World) -> str:
    return str(world.recent())


def good_message(world: World) -> str:
    import base64

    return base64.b64encode(b"\x80" + bytes(world.signed(world.pay(1)).message)).decode()


def old_message(world: World) -> str:
    import base64

    message = world.signed(world.pay(1), blockhash=Hash.default()).message
    return base64.b64encode(b"\x80" + bytes(message)).decode()


def owned_by(world: World) -> dict[str, Any]:
    return {"memcmp": {"offset": 32, "bytes": str(world.payer.pubkey())}}


def encoded(encoding: Any, **more: Any) -> dict[str, Any]:
    return {**CONFIRMED, "encoding": encoding, **more}


def filtered(*filters: Any, **more: Any) -> Callable[[World], dict[str, Any]]:
    return lambda world: {
        **CONFIRMED,
        "encoding": "base64",
        "filters": [each(world) if callable(each) else each for each in filters],
        **more,
    }


def wanted_accounts(encoding: Any, *named: Callable[[World], str]) -> Callable[[World], dict[str, Any]]:
    return lambda world: {
        **SIM,
        "replaceRecentBlockhash": True,
        "accounts": {"encoding": encoding, "addresses": [each(world) for each in named]},
    }


def mint_filter(address: Callable[[World], str]) -> Callable[[World], dict[str, str]]:
    return lambda world: {"mint": address(world)}


def many(count: int, item: Callable[[World], Any]) -> Callable[[World], list[Any]]:
    return lambda world: [item(world)] * count


CLUSTER = [
    case("health", "getHealth"),
    shape("version", "getVersion"),
    shape("identity", "getIdentity"),
    shape("genesis hash", "getGenesisHash"),
    shape("cluster nodes", "getClusterNodes"),
    shape("vote accounts", "getVoteAccounts"),
    shape("vote accounts of one", "getVoteAccounts", lambda w: {"votePubkey": nobody(w)}),
    shape("epoch schedule", "getEpochSchedule"),
    shape("epoch info", "getEpochInfo", CONFIRMED),
    case("epoch info too early", "getEpochInfo", {"minContextSlot": FAR}),
    shape("slot leader", "getSlotLeader"),
    shape("slot leaders", "getSlotLeaders", 1, 2),
    case("slot leaders, too many", "getSlotLeaders", 1, 5_001),
    shape("leader schedule", "getLeaderSchedule"),
    case("leader schedule of a far slot", "getLeaderSchedule", FAR),
    case("leader schedule of nobody", "getLeaderSchedule", None, lambda w: {"identity": nobody(w)}),
    case("leader schedule of no key", "getLeaderSchedule", None, {"identity": "zzz"}),
    shape("inflation governor", "getInflationGovernor"),
    shape("inflation rate", "getInflationRate"),
    case("inflation reward", "getInflationReward", many(1, payer)),
    case("inflation reward of a far epoch", "getInflationReward", many(1, payer), {"epoch": 10}),
    shape("supply", "getSupply", {"excludeNonCirculatingAccountsList": True}),
    shape("largest accounts", "getLargestAccounts"),
    shape("largest accounts, circulating", "getLargestAccounts", {"filter": "circulating"}),
    case("largest accounts, unknown filter", "getLargestAccounts", {"filter": "rich"}),
    shape("stake minimum delegation", "getStakeMinimumDelegation"),
    shape("max retransmit slot", "getMaxRetransmitSlot"),
    shape("max shred insert slot", "getMaxShredInsertSlot"),
    shape("transaction count", "getTransactionCount"),
    shape("first available block", "getFirstAvailableBlock"),
    shape("minimum ledger slot", "minimumLedgerSlot"),
    case("performance samples, too many", "getRecentPerformanceSamples", 721),
    case("performance samples, not a number", "getRecentPerformanceSamples", "many"),
    shape("block production", "getBlockProduction"),
    case("block production of no key", "getBlockProduction", {"identity": "zzz"}),
]

BLOCKS = [
    shape("slot", "getSlot", CONFIRMED),
    shape("slot processed", "getSlot", PROCESSED),
    case("slot too early", "getSlot", {"minContextSlot": FAR}),
    shape("slot, unknown commitment", "getSlot", {"commitment": "sure"}),
    shape("slot, commitment of a wrong type", "getSlot", {"commitment": 1}),
    case("slot, no object", "getSlot", "confirmed"),
    shape("slot, an old commitment", "getSlot", {"commitment": "recent"}),
    shape("slot, null", "getSlot", None),
    shape("block height", "getBlockHeight", CONFIRMED),
    case("block height too early", "getBlockHeight", {"minContextSlot": FAR}),
    shape("block time", "getBlockTime", slot_of("transfer")),
    case("block time of the future", "getBlockTime", FAR),
    case("block time of two", "getBlockTime", 1, 2),
    case("block time of text", "getBlockTime", "1"),
    case("block time of less than nothing", "getBlockTime", -1),
    case("block time of a fraction", "getBlockTime", 1.5),
    shape("blocks", "getBlocks", 0, 3),
    shape("blocks from", "getBlocks", slot_of("looked up"), None, CONFIRMED),
    case("blocks backwards", "getBlocks", 5, 3),
    shape("blocks, too many", "getBlocks", 0, 500_001),
    case("blocks processed", "getBlocks", 0, 3, PROCESSED),
    shape("blocks with limit", "getBlocksWithLimit", 0, 3),
    case("blocks with limit 0", "getBlocksWithLimit", 5, 0),
    case("blocks with limit, too many", "getBlocksWithLimit", 5, 500_001),
    shape("block commitment", "getBlockCommitment", FAR),
    shape("block", "getBlock", slot_of("transfer"), V0),
    shape("block of signatures", "getBlock", slot_of("transfer"), {**V0, "transactionDetails": "signatures"}),
    shape("block of accounts", "getBlock", slot_of("transfer"), {**V0, "transactionDetails": "accounts"}),
    shape("block of none", "getBlock", slot_of("transfer"), {**V0, "transactionDetails": "none", "rewards": False}),
    case("block, unknown detail", "getBlock", 1, {**V0, "transactionDetails": "some"}),
    case("block of the future", "getBlock", FAR, V0),
    case("block processed", "getBlock", slot_of("transfer"), PROCESSED),
    case("block, unsupported version", "getBlock", slot_of("token transfer"), CONFIRMED),
    case("block, encoding alone as text, unknown", "getBlock", slot_of("transfer"), "hex"),
    shape("latest blockhash", "getLatestBlockhash", CONFIRMED),
    case("latest blockhash too early", "getLatestBlockhash", {"minContextSlot": FAR}),
    case("a valid blockhash", "isBlockhashValid", fresh_blockhash, CONFIRMED),
    case("an unknown blockhash", "isBlockhashValid", SYSTEM, CONFIRMED),
    case("a blockhash that is none", "isBlockhashValid", "zzz", CONFIRMED),
    case("a blockhash that is no text", "isBlockhashValid", 3),
    case("rent for nothing", "getMinimumBalanceForRentExemption", 0),
    case("rent for an account", "getMinimumBalanceForRentExemption", 165),
    case("rent for too much", "getMinimumBalanceForRentExemption", FAR),
    case("rent for text", "getMinimumBalanceForRentExemption", "1"),
]

ACCOUNTS = [
    case("balance", "getBalance", payer, CONFIRMED),
    case("balance of nobody", "getBalance", nobody, CONFIRMED),
    case("balance of a number", "getBalance", 1),
    case("balance of nothing", "getBalance"),
    case("balance of a short key", "getBalance", "zzz"),
    case("balance of no base58", "getBalance", "0OIl"),
    case("balance of a long text", "getBalance", "1" * 200),
    case("balance, too many parameters", "getBalance", payer, CONFIRMED, 3),
    case("balance too early", "getBalance", payer, {"minContextSlot": FAR}),
    case("balance, context slot of a wrong type", "getBalance", payer, {"minContextSlot": "1"}),
    case("account", "getAccountInfo", payer, CONFIRMED),
    case("account of nobody", "getAccountInfo", nobody, encoded("base64")),
    case("account in base58", "getAccountInfo", payer, encoded("base58")),
    case("account in base64", "getAccountInfo", mint, encoded("base64")),
    case("account in base64+zstd", "getAccountInfo", mint, encoded("base64+zstd")),
    case("account in jsonParsed", "getAccountInfo", payer, encoded("jsonParsed")),
    case("account, unknown encoding", "getAccountInfo", payer, encoded("hex")),
    case("account, encoding of a wrong type", "getAccountInfo", payer, encoded(1)),
    case("account too large for base58", "getAccountInfo", holding, encoded("base58")),
    case("account too large without an encoding", "getAccountInfo", holding, CONFIRMED),
    case("mint parsed", "getAccountInfo", mint, encoded("jsonParsed")),
    case("token account parsed", "getAccountInfo", holding, encoded("jsonParsed")),
    case("lookup table parsed", "getAccountInfo", table, encoded("jsonParsed")),
    case("lookup table", "getAccountInfo", table, encoded("base64", dataSlice={"offset": 56, "length": 64})),
    shape("clock parsed", "getAccountInfo", CLOCK, encoded("jsonParsed")),
    shape("another sysvar parsed", "getAccountInfo", EPOCH_SCHEDULE, encoded("jsonParsed")),
    shape("clock", "getAccountInfo", CLOCK, encoded("base64")),
    case("program", "getAccountInfo", str(TOKENS), encoded("base64", dataSlice={"offset": 0, "length": 4})),
    case("builtin program", "getAccountInfo", SYSTEM, encoded("base64")),
    case("slice", "getAccountInfo", mint, encoded("base64", dataSlice={"offset": 44, "length": 1})),
    case("slice in base58", "getAccountInfo", holding, encoded("base58", dataSlice={"offset": 0, "length": 32})),
    case("slice in zstd", "getAccountInfo", holding, encoded("base64+zstd", dataSlice={"offset": 4, "length": 9})),
    case("slice parsed", "getAccountInfo", holding, encoded("jsonParsed", dataSlice={"offset": 0, "length": 4})),
    case("slice too large for base58", "getAccountInfo", holding, encoded("base58", dataSlice={"offset": 0, "length": 129})),
    case("slice beyond the end", "getAccountInfo", mint, encoded("base64", dataSlice={"offset": 999, "length": 4})),
    case("slice over the end", "getAccountInfo", mint, encoded("base64", dataSlice={"offset": 80, "length": 400})),
    case("slice without a length", "getAccountInfo", mint, encoded("base64", dataSlice={"offset": 1})),
    case("slice below nothing", "getAccountInfo", mint, encoded("base64", dataSlice={"offset": -1, "length": 1})),
    case("slice of a wrong type", "getAccountInfo", mint, encoded("base64", dataSlice=[1, 2])),
    case("slice of text", "getAccountInfo", mint, encoded("base64", dataSlice="all")),
    case("accounts", "getMultipleAccounts", lambda w: [nobody(w), friend(w)], CONFIRMED),
    case("accounts parsed", "getMultipleAccounts", lambda w: [mint(w), friend(w)], encoded("jsonParsed")),
    case("accounts of none", "getMultipleAccounts", [], CONFIRMED),
    case("accounts, too many", "getMultipleAccounts", many(101, mint)),
    case("accounts, no list", "getMultipleAccounts", mint),
    case("accounts, one of them bad", "getMultipleAccounts", lambda w: [mint(w), "zzz"]),
    case("accounts, one of them a number", "getMultipleAccounts", lambda w: [mint(w), 1]),
    case("accounts too large for base58", "getMultipleAccounts", lambda w: [holding(w)], encoded("base58")),
    case("program accounts", "getProgramAccounts", str(TOKENS), filtered(owned_by)),
    case("program accounts by size", "getProgramAccounts", str(TOKENS), filtered(owned_by, {"dataSize": 165})),
    case("program accounts by another size", "getProgramAccounts", str(TOKENS), filtered(owned_by, {"dataSize": 164})),
    case("token accounts as such", "getProgramAccounts", str(TOKENS), filtered(owned_by, {"tokenAccountState": None})),
    case("program accounts in zstd", "getProgramAccounts", str(TOKENS), filtered(owned_by, encoding="base64+zstd")),
    case("program accounts parsed", "getProgramAccounts", str(TOKENS), filtered(owned_by, encoding="jsonParsed")),
    case("program accounts in context", "getProgramAccounts", str(TOKENS), filtered(owned_by, withContext=True)),
    case("program accounts sorted", "getProgramAccounts", str(TOKENS), filtered(owned_by, sortResults=True)),
    case("program accounts of nobody", "getProgramAccounts", nobody, CONFIRMED),
    case("program accounts too early", "getProgramAccounts", str(TOKENS), {"minContextSlot": FAR}),
    case("program accounts, too many filters", "getProgramAccounts", str(TOKENS), filtered(*[{"dataSize": 165}] * 5)),
    case("program accounts, unknown filter", "getProgramAccounts", str(TOKENS), filtered({"dataLength": 165})),
    case("program accounts, filter of two", "getProgramAccounts", str(TOKENS), filtered({"dataSize": 1, "memcmp": {}})),
    case("program accounts, filters are no list", "getProgramAccounts", str(TOKENS), {"filters": {"dataSize": 165}}),
    case("memcmp in base64", "getProgramAccounts", str(TOKENS), filtered(owned_by, {"memcmp": {"offset": 0, "bytes": "AQ==", "encoding": "base64"}})),
    case("memcmp as bytes", "getProgramAccounts", str(TOKENS), filtered(owned_by, {"memcmp": {"offset": 108, "bytes": [1]}})),
    case("memcmp of half an owner", "getProgramAccounts", str(TOKENS), filtered({"memcmp": {"offset": 32, "bytes": "2"}})),
    case("memcmp of an owner and half a mint", "getProgramAccounts", str(TOKENS), filtered(owned_by, {"memcmp": {"offset": 0, "bytes": "2"}})),
    case("memcmp without an offset", "getProgramAccounts", str(TOKENS), filtered({"memcmp": {"bytes": "3"}})),
    case("memcmp without bytes", "getProgramAccounts", str(TOKENS), filtered({"memcmp": {"offset": 0}})),
    case("memcmp of no base58", "getProgramAccounts", str(TOKENS), filtered({"memcmp": {"offset": 0, "bytes": "0"}})),
    case("memcmp of no base64", "getProgramAccounts", str(TOKENS), filtered({"memcmp": {"offset": 0, "bytes": "*", "encoding": "base64"}})),
    case("memcmp too long", "getProgramAccounts", str(TOKENS), filtered({"memcmp": {"offset": 0, "bytes": "2" * 176}})),
    case("memcmp in hex", "getProgramAccounts", str(TOKENS), filtered({"memcmp": {"offset": 0, "bytes": "00", "encoding": "hex"}})),
]  # fmt: skip

TOKEN_CASES = [
    case("token balance", "getTokenAccountBalance", holding, CONFIRMED),
    case("token balance of a wallet", "getTokenAccountBalance", payer, CONFIRMED),
    case("token balance of nobody", "getTokenAccountBalance", nobody, CONFIRMED),
    case("token balance of a mint", "getTokenAccountBalance", mint, CONFIRMED),
    case("token supply", "getTokenSupply", mint, CONFIRMED),
    case("token supply of a wallet", "getTokenSupply", payer, CONFIRMED),
    case("token supply of a holding", "getTokenSupply", holding, CONFIRMED),
    case("token supply of nobody", "getTokenSupply", nobody, CONFIRMED),
    case("largest holders", "getTokenLargestAccounts", mint, CONFIRMED),
    case("largest holders of a wallet", "getTokenLargestAccounts", payer, CONFIRMED),
    case("largest holders of nobody", "getTokenLargestAccounts", nobody, CONFIRMED),
    case("tokens of an owner", "getTokenAccountsByOwner", payer, mint_filter(mint), encoded("base64")),
    case("tokens of an owner parsed", "getTokenAccountsByOwner", payer, {"programId": str(TOKENS)}, encoded("jsonParsed")),
    case("tokens of an owner without an encoding", "getTokenAccountsByOwner", payer, {"programId": str(TOKENS)}, CONFIRMED),
    case("tokens of nobody", "getTokenAccountsByOwner", nobody, {"programId": str(TOKENS)}, CONFIRMED),
    case("tokens, unknown program", "getTokenAccountsByOwner", payer, {"programId": SYSTEM}, CONFIRMED),
    case("tokens, mint of nobody", "getTokenAccountsByOwner", payer, mint_filter(nobody), CONFIRMED),
    case("tokens, a wallet as mint", "getTokenAccountsByOwner", payer, mint_filter(friend), CONFIRMED),
    case("tokens, a holding as mint", "getTokenAccountsByOwner", payer, mint_filter(holding), CONFIRMED),
    case("tokens, neither", "getTokenAccountsByOwner", payer, {}, CONFIRMED),
    case("tokens, both", "getTokenAccountsByOwner", payer, lambda w: {"mint": mint(w), "programId": SYSTEM}, CONFIRMED),
    case("tokens, no filter", "getTokenAccountsByOwner", payer),
    case("tokens, mint is no key", "getTokenAccountsByOwner", payer, {"mint": "zzz"}),
    case("tokens of a delegate", "getTokenAccountsByDelegate", delegate, mint_filter(mint), encoded("jsonParsed")),
    case("tokens of no delegate", "getTokenAccountsByDelegate", payer, {"programId": str(TOKENS)}, encoded("base64")),
]  # fmt: skip

SENDING = [
    case("fee", "getFeeForMessage", good_message, CONFIRMED),
    case("fee on an unknown blockhash", "getFeeForMessage", old_message, CONFIRMED),
    case("fee of nonsense", "getFeeForMessage", "AAAA", CONFIRMED),
    case("fee of no base64", "getFeeForMessage", "A*AA", CONFIRMED),
    case("fee of a number", "getFeeForMessage", 5),
    shape("prices", "getRecentPrioritizationFees", after_a_payment),
    shape("prices of nothing named", "getRecentPrioritizationFees", None),
    case("prices, too many", "getRecentPrioritizationFees", many(129, mint)),
    case("send again", "sendTransaction", pay_twice, SEND),
    case("send on an unknown blockhash", "sendTransaction", pay_unsigned, SEND),
    case("send more than there is", "sendTransaction", pay_too_much, SEND),
    case("send dust", "sendTransaction", pay_dust, SEND),
    case("send forged", "sendTransaction", pay_forged, SEND),
    case("send too early", "sendTransaction", pay_too_much, {**SEND, "minContextSlot": FAR}),
    case("send nothing", "sendTransaction"),
    case("send empty text", "sendTransaction", ""),
    case("send no base64", "sendTransaction", "A*AA", SEND),
    case("send short base64", "sendTransaction", "AAAA", SEND),
    case("send no base58", "sendTransaction", "0"),
    case("send a long text", "sendTransaction", "A" * 3_000, SEND),
    case("send a long base58", "sendTransaction", "2" * 3_000),
    case("send in another encoding", "sendTransaction", "AAAA", {"encoding": "hex"}),
    case("send in json", "sendTransaction", "AAAA", {"encoding": "json"}),
    case("send, unknown preflight commitment", "sendTransaction", wire, {**SEND, "preflightCommitment": "sure"}),
    case("send, skip is no boolean", "sendTransaction", wire, {**SEND, "skipPreflight": "yes"}),
    case("send, retries are no number", "sendTransaction", wire, {**SEND, "maxRetries": "3"}),
    case("simulate", "simulateTransaction", pay_unsigned, {**SIM, "replaceRecentBlockhash": True}),
    case("simulate on an unknown blockhash", "simulateTransaction", pay_unsigned, SIM),
    case("simulate more than there is", "simulateTransaction", pay_too_much, SIM),
    case("simulate dust", "simulateTransaction", pay_dust, SIM),
    case("simulate forged", "simulateTransaction", pay_forged, {**SIM, "sigVerify": True}),
    case("simulate forged, unverified", "simulateTransaction", pay_forged, SIM),
    case("simulate again", "simulateTransaction", pay_twice, SIM),
    case("simulate with accounts", "simulateTransaction", pay_unsigned, wanted_accounts("base64", friend, nobody, mint)),
    case("simulate with parsed accounts", "simulateTransaction", pay_unsigned, wanted_accounts("jsonParsed", friend, holding)),
    case("simulate with accounts in base58", "simulateTransaction", pay_unsigned, wanted_accounts("base58", friend)),
    case("simulate with too many accounts", "simulateTransaction", pay_unsigned, wanted_accounts("base64", *[friend] * 9)),
    case("simulate with a bad account", "simulateTransaction", pay_unsigned, wanted_accounts("base64", lambda _: "zzz")),
    case("simulate with inner instructions", "simulateTransaction", lambda w: w.wires["tokens"], {**SIM, "replaceRecentBlockhash": True, "innerInstructions": True}),
    case("simulate tokens", "simulateTransaction", lambda w: w.wires["token transfer"], {**SIM, "replaceRecentBlockhash": True, "innerInstructions": True}),
    case("simulate a looked-up address", "simulateTransaction", lambda w: w.wires["looked up"], {**SIM, "replaceRecentBlockhash": True}),
    case("simulate a first holding", "simulateTransaction", first_holding, {**SIM, "replaceRecentBlockhash": True, "innerInstructions": True}),
    case("simulate, both", "simulateTransaction", pay_unsigned, {**SIM, "replaceRecentBlockhash": True, "sigVerify": True}),
    case("simulate too early", "simulateTransaction", pay_unsigned, {**SIM, "minContextSlot": FAR}),
    case("simulate nonsense", "simulateTransaction", "AAAA", SIM),
    shape("airdrop", "requestAirdrop", lambda _: str(key("gifted").pubkey()), 10**9),
    case("airdrop to nobody in particular", "requestAirdrop", "zzz", 1),
    case("airdrop of nothing said", "requestAirdrop", friend),
    case("airdrop of text", "requestAirdrop", friend, "1"),
]  # fmt: skip

HISTORY = [
    case("statuses", "getSignatureStatuses", lambda w: [w.signatures["transfer"], w.signatures["failed"]], {"searchTransactionHistory": True}),
    case("status of an unknown one", "getSignatureStatuses", ["1" * 64], {"searchTransactionHistory": True}),
    case("statuses, too many", "getSignatureStatuses", many(257, sent("transfer"))),
    case("statuses, no list", "getSignatureStatuses", "1" * 64),
    case("statuses, a bad one", "getSignatureStatuses", ["zzz"]),
    *[
        case(f"transaction {name} in {encoding}", "getTransaction", sent(name), {**V0, "encoding": encoding})
        for name in ("tokens", "token transfer", "transfer", "memo", "failed", "looked up", "all of system", "all of tokens", "more of tokens", "all of others")
        for encoding in ("json", "jsonParsed")
    ],
    shape("transaction table in json", "getTransaction", sent("table"), {**V0, "encoding": "json"}),  # it names a slot
    case("transaction table in jsonParsed", "getTransaction", sent("table"), {**V0, "encoding": "jsonParsed"}),
    *[
        shape(f"transaction in {encoding}", "getTransaction", sent("transfer"), {**V0, "encoding": encoding})
        for encoding in ("base58", "base64", "binary")
    ],
    case("transaction without an encoding", "getTransaction", sent("transfer"), V0),
    case("transaction, encoding alone", "getTransaction", sent("transfer"), "jsonParsed"),
    case("transaction, unknown encoding", "getTransaction", sent("transfer"), {**V0, "encoding": "hex"}),
    case("transaction, unsupported version", "getTransaction", sent("looked up"), CONFIRMED),
    case("transaction, legacy, no version named", "getTransaction", sent("transfer"), CONFIRMED),
    case("transaction, version of text", "getTransaction", sent("transfer"), {**V0, "maxSupportedTransactionVersion": "0"}),
    case("transaction, a later version", "getTransaction", sent("looked up"), {**V0, "maxSupportedTransactionVersion": 1}),
    case("transaction, version 256", "getTransaction", sent("transfer"), {**V0, "maxSupportedTransactionVersion": 256}),
    case("transaction processed", "getTransaction", sent("transfer"), PROCESSED),
    case("transaction of nobody", "getTransaction", "1" * 64, V0),
    case("transaction of no signature", "getTransaction", "zzz", V0),
    case("transaction of no base58", "getTransaction", "0OIl", V0),
    case("history", "getSignaturesForAddress", friend, {**CONFIRMED, "until": "1" * 64}),
    case("history with a limit", "getSignaturesForAddress", friend, lambda w: {**CONFIRMED, "limit": 1, "before": w.signatures["looked up"]}),
    case("history of a memo", "getSignaturesForAddress", payer, lambda w: {**CONFIRMED, "limit": 1, "before": w.signatures["failed"]}),
    case("history of nobody", "getSignaturesForAddress", nobody, CONFIRMED),
    case("history, limit 0", "getSignaturesForAddress", payer, {**CONFIRMED, "limit": 0}),
    case("history, limit too high", "getSignaturesForAddress", payer, {**CONFIRMED, "limit": 1_001}),
    case("history before nonsense", "getSignaturesForAddress", payer, {**CONFIRMED, "before": "zzz"}),
    case("history before the unknown", "getSignaturesForAddress", payer, {**CONFIRMED, "before": "1" * 64}),
    case("history processed", "getSignaturesForAddress", payer, PROCESSED),
    case("history too early", "getSignaturesForAddress", payer, {**CONFIRMED, "minContextSlot": FAR}),
    case("history of no key", "getSignaturesForAddress", "zzz"),
]  # fmt: skip

NO_CONFIG = [
    case(f"{method} with a number for its configuration", method, *before, 5)
    for method, before in {
        "getBalance": (SYSTEM,),
        "getAccountInfo": (SYSTEM,),
        "getMultipleAccounts": ([],),
        "getProgramAccounts": (SYSTEM,),
        "getTransaction": ("1" * 64,),
        "getBlock": (1,),
        "getBlocks": (0, 1),
        "getBlocksWithLimit": (0, 1),
        "getSignaturesForAddress": (SYSTEM,),
        "simulateTransaction": ("",),
        "sendTransaction": ("",),
        "getTokenSupply": (SYSTEM,),
        "getTokenAccountsByOwner": (SYSTEM, {"programId": SYSTEM}),
        "getSignatureStatuses": ([],),
        "getEpochInfo": (),
        "getSlot": (),
        "getMinimumBalanceForRentExemption": (1,),
        "requestAirdrop": (SYSTEM, 1),
        "getFeeForMessage": ("",),
        "isBlockhashValid": (SYSTEM,),
        "getLargestAccounts": (),
        "getSupply": (),
        "getVoteAccounts": (),
        "getInflationReward": ([],),
        "getTransactionCount": (),
    }.items()
]

UNKNOWN = [
    case("unknown method", "nope"),
    case("a method of old", "getRecentBlockhash"),
    case("another method of old", "getConfirmedTransaction", sent("transfer")),
    case("a subscription by HTTP", "slotSubscribe"),
]

CASES = [*CLUSTER, *BLOCKS, *ACCOUNTS, *TOKEN_CASES, *SENDING, *HISTORY, *NO_CONFIG, *UNKNOWN]

# Whole bodies: what isn't a proper request, and batches.
BODIES: dict[str, bytes] = {
    "no json": b"{bad",
    "nothing": b"",
    "a number": b"3",
    "text": b'"getHealth"',
    "an empty batch": b"[]",
    "no method": b'{"jsonrpc":"2.0","id":1}',
    "no version": b'{"id":1,"method":"getHealth"}',
    "another version": b'{"jsonrpc":"1.0","id":1,"method":"getHealth"}',
    "no id": b'{"jsonrpc":"2.0","method":"getHealth"}',
    "id null": b'{"jsonrpc":"2.0","id":null,"method":"getHealth"}',
    "id of text": b'{"jsonrpc":"2.0","id":"x","method":"getHealth"}',
    "id of a fraction": b'{"jsonrpc":"2.0","id":1.5,"method":"getHealth"}',
    "id of a list": b'{"jsonrpc":"2.0","id":[1],"method":"getHealth"}',
    "params null": b'{"jsonrpc":"2.0","id":1,"method":"getHealth","params":null}',
    "params of text": b'{"jsonrpc":"2.0","id":1,"method":"getHealth","params":"x"}',
    "named params": b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":{"pubkey":"x"}}',
    "params for a method without": b'{"jsonrpc":"2.0","id":1,"method":"getHealth","params":[1]}',
    "method is a number": b'{"jsonrpc":"2.0","id":1,"method":1}',
    "an unknown field": b'{"jsonrpc":"2.0","id":1,"method":"getHealth","x":1}',
    "a batch": b'[{"jsonrpc":"2.0","id":1,"method":"getHealth"},{"jsonrpc":"2.0","id":"b","method":"nope"},3]',
    "a batch with a notification": b'[{"jsonrpc":"2.0","method":"getHealth"},{"jsonrpc":"2.0","id":2,"method":"getHealth"}]',
    "a batch of one": b'[{"jsonrpc":"2.0","id":1,"method":"getHealth"}]',
}
