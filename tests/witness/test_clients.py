"""Clients that nobody here wrote, against a real local chain with the real program: what they did, and what they read.

The scripts play and report; the judgement is here, by our own reading of the same accounts and logs, by Anchor's Rust
command, and by arithmetic.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.accounts import ACCOUNT_TYPES
from marketplace.chain.logs import read_events
from marketplace.chain.program import AnchorCodec
from marketplace.chain.reader import ChainReader
from marketplace.chain.rpc import RpcClient
from tests.chain.market import LOCALNET_COMMAND, program_file
from tests.witness.javascript import ANCHOR_CLI, IDL, run
from tests.witness.plain import plain
from tests.witness.values import DOCUMENT, TYPES

pytestmark = [pytest.mark.witness, pytest.mark.xdist_group("witness-clients")]

DEPOSIT = 60_000_000
BOND = DELEGATED = 50_000_000
PRICE = 3_600_000_000  # per hour: 1,000 base units a millisecond
BILLED_MS = 30_000
COST = PRICE * BILLED_MS // 3_600_000
ERRORS = {entry["name"]: {"code": entry["code"], "message": entry["msg"]} for entry in DOCUMENT["errors"]}


@dataclass(frozen=True)
class Played:
    """A running chain, and what the client says of its play there."""

    ready: dict[str, Any]
    told: dict[str, Any]

    @property
    def program(self) -> Pubkey:
        return Pubkey.from_string(self.ready["program_id"])


@contextmanager
def localnet(folder: Path) -> Iterator[dict[str, Any]]:
    config = folder / "localnet.toml"
    config.write_text(
        f'[chain]\nrpc_port = 0\ndata = "data"\nslot_ms = 100\nfinality_slots = 4\nprogram = "{program_file()}"\n'
    )
    command = [LOCALNET_COMMAND, "start", "--config", str(config), "--json"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with localnet(tmp_path_factory.mktemp("localnet")) as ready:
        yield ready


@pytest.fixture(scope="module")
def limit_s() -> int:
    """How long the play may take: below the limit of a test. A few seconds are usual."""
    return 100


@pytest.fixture(scope="module")
def played(chain: dict[str, Any], limit_s: int) -> Played:
    amounts = {"deposit": DEPOSIT, "bond": BOND, "delegated": DELEGATED, "price": PRICE, "billed": BILLED_MS}
    given = {
        "idl": DOCUMENT,
        "rpc": chain["rpc"],
        "ws": chain["ws"],
        "program": chain["program_id"],
        "amounts": {name: str(amount) for name, amount in amounts.items()},
    }
    return Played(chain, run("client.mjs", given, limit_s))


@pytest.fixture
async def reader(played: Played):
    async with RpcClient([played.ready["rpc"]]) as rpc:
        yield ChainReader(rpc, AnchorCodec(played.program))


def test_everything_was_sent_and_confirmed(played: Played) -> None:
    assert [each["method"] for each in played.told["sent"]] == [
        "initialize", "set_class", "register_market", "register_node", "open_vault", "deposit", "delegate",
        "open_escrow", "assign", "settle", "settle",
        "open_escrow", "extend_escrow", "cancel_escrow", "grant_allowance", "revoke_allowance", "withdraw",
        "claim", "unbond", "set_params", "unbond", "withdraw_ticket",
        "bond", "unbond_bond", "set_commission", "drain", "drain",
        "set_fee", "withdraw_fees", "sweep_protocol_fees", "rotate_keys", "suspend_node", "suspend_node",
        "set_pause", "set_pause", "propose_admin", "accept_admin",
    ]  # fmt: skip


def test_the_renter_paid_for_the_usage_and_has_the_rest(played: Played) -> None:
    locked, opened = played.told["job"]["vault"], played.told["job"]["open"]
    assert locked["locked"] == opened["deposit"] == str(DEPOSIT)
    assert (opened["state"], opened["paid"], opened["ceiling_price"]) == ("0", "0", str(PRICE))
    assert played.told["job"]["closed"]
    assert played.told["left"] == str(DEPOSIT - COST)
    assert played.told["accounts"]["vault"]["value"]["locked"] == "0"
    settled = events(played, "Settled")
    assert sum(int(event["paid"]) for event in settled) == COST
    for event in settled:
        assert event["countersigner"] == played.told["keys"]["meter"]
        parts = sum(int(event[part]) for part in ("operator", "stakers", "market", "protocol"))
        assert parts == int(event["paid"])


def test_what_was_changed_and_taken_back_is_as_it_was_told(played: Played) -> None:
    extended, allowance = played.told["extended"], played.told["allowance"]
    assert (extended["deposit"], extended["max_time"]) == (str(DEPOSIT // 4 + DEPOSIT // 8), "1500")
    assert [event["refunded"] for event in events(played, "EscrowClosed")][-1] == extended["deposit"]
    assert (allowance["max_price"], allowance["expires_at"]) == (str(2**64 - 1), str(2**62))
    assert played.told["accounts"]["allowance"]["value"]["total_cap"] == "0"


def test_the_market_and_the_protocol_took_what_the_settlements_gave_them(played: Played) -> None:
    (withdrawn,), (swept,) = events(played, "FeesWithdrawn"), events(played, "ProtocolFeesSwept")
    for taken, part in ((withdrawn, "market"), (swept, "protocol")):
        assert int(taken["amount"]) == sum(int(event[part]) for event in events(played, "Settled")) > 0
    market, keys = played.told["accounts"]["market"]["value"], played.told["keys"]
    assert (market["market_owed"], market["protocol_owed"]) == ("0", "0")
    assert (market["matcher"], market["meter"]) == (keys["meter"], keys["matcher"])
    assert played.told["accounts"]["config"]["value"]["admin"] == keys["authority"]


def test_the_delegator_was_paid_by_the_formula_of_the_documents(played: Played) -> None:
    """Fees per share in 64.64 bits, commission first; what is claimed is what the event and the balance say."""
    before = played.told["pool"]
    shares = int(before["active_shares"])
    per_share = remainder = 0
    for event in events(played, "Settled"):
        stakers = int(event["stakers"])
        reward = ((stakers - stakers * int(before["commission_bps"]) // 10_000) << 64) + remainder
        per_share += reward // shares
        remainder = reward % shares
    earned = int(played.told["shares"]) * per_share >> 64
    assert earned > 0
    assert played.told["claimed"] == str(earned)
    assert [int(event["fees"]) for event in events(played, "RewardsClaimed")] == [earned]
    assert played.told["accounts"]["position"]["value"]["fees_paid"] == str(per_share)


def test_the_delegator_has_half_of_the_stake_back_and_waits_for_the_other(played: Played) -> None:
    long, short = played.told["tickets"]
    shares = int(played.told["shares"])
    assert [int(long["shares"]), int(short["shares"])] == [shares // 2, shares - shares // 2]
    assert int(long["unlock_at"]) > int(short["unlock_at"])
    assert int(played.told["withdrawn"]) == DELEGATED - DELEGATED // 2
    position = played.told["accounts"]["position"]["value"]
    assert (position["shares"], position["tickets"], position["next_ticket"]) == ("0", "1", "2")
    assert played.told["owned"] == [played.told["position"]]


def test_a_simulation_tells_the_event_beforehand(played: Played) -> None:
    (simulated,) = played.told["simulated"]
    assert (simulated["name"], [simulated["data"]]) == ("deposited", events(played, "Deposited"))


def test_refusals_carry_the_idls_number_and_sentence(played: Played) -> None:
    assert played.told["errors"] == {
        "deposit_of_nothing": ERRORS["AmountZero"],
        "delegate_nothing": ERRORS["AmountZero"],
        "claim_nothing": ERRORS["NothingOwed"],
        "unbond_too_much": ERRORS["SharesInsufficient"],
        "withdraw_early": ERRORS["TicketLocked"],
        "commission_leap": ERRORS["CommissionStepTooLarge"],
        "accept_for_another": ERRORS["NotAdmin"],
    }


def test_what_the_logs_subscription_told_is_what_the_transactions_have(played: Played) -> None:
    """On a cluster it is a hint: under load a validator leaves notices out, and gives some for slots that it then drops."""
    slots = {event["signature"]: event["slot"] for event in played.told["logged"]}
    told = [event for event in played.told["told"] if slots[event["signature"]] in event["slots"]]
    assert told
    assert set(told_of(told, "signature", "name", "data")) <= set(
        told_of(played.told["logged"], "signature", "name", "data")
    )


def test_the_localnet_tells_every_event_once_with_its_slot(played: Played) -> None:
    """It has no forks and leaves nothing out."""
    logged = [event | {"slots": [event["slot"]]} for event in played.told["logged"]]
    parts = ("signature", "name", "data", "slots")
    assert told_of(played.told["told"], *parts) == told_of(logged, *parts)
    assert len({event["name"] for event in logged}) > 25


def told_of(events: list[dict[str, Any]], *keys: str) -> list[str]:
    """These parts of each event, in an order that doesn't depend on when it was told."""
    return sorted(json.dumps({key: event[key] for key in keys}, sort_keys=True) for event in events)


async def test_we_read_the_same_events_from_the_same_logs(played: Played, reader: ChainReader) -> None:
    async with RpcClient([played.ready["rpc"]]) as rpc:
        codec = AnchorCodec(played.program)
        for sent in played.told["sent"]:
            landed = await rpc.find_transaction(Signature.from_string(sent["signature"]))
            assert landed is not None
            found = read_events(landed.logs, codec)
            assert (found.truncated, found.unknown) == (False, 0)
            assert [plain(event) for event in found.events] == [
                event["data"] for event in played.told["logged"] if event["signature"] == sent["signature"]
            ]


async def test_we_read_the_same_accounts(played: Played, reader: ChainReader) -> None:
    for name, account in played.told["accounts"].items():
        kind = ACCOUNT_TYPES[name.capitalize()]
        located = await reader.get(kind, Pubkey.from_string(account["address"]))
        value = dict(account["value"])
        value.pop("reserved")
        assert plain(located.account) == value, name


def test_anchors_command_reads_the_same_accounts(played: Played) -> None:
    """A third hand, in Rust: it decodes by the IDL, with the types of Anchor's specification."""
    for name, account in played.told["accounts"].items():
        kind = f"{DOCUMENT['metadata']['name']}.{name.capitalize()}"
        command = [ANCHOR_CLI, "account", kind, account["address"], "--idl", IDL]
        done = subprocess.run(
            [*command, "--provider.cluster", played.ready["rpc"]],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert from_anchor(json.loads(done.stdout)) == account["value"], name


def from_anchor(value: Any) -> Any:
    """The command's JSON in the plain form."""
    if isinstance(value, dict):
        return {name: from_anchor(item) for name, item in value.items()}
    if isinstance(value, list):
        return bytes(value).hex() if isinstance(value[0], int) else [from_anchor(item) for item in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_kit_pays_and_reads(chain: dict[str, Any]) -> None:
    told = run("kit.mjs", {"rpc": chain["rpc"], "ws": chain["ws"], "paymentMint": chain["payment_mint"]})
    sent, funded = 1_234_567_890, 2_000_000_000
    assert (told["funded"], told["received"]) == (str(funded), str(sent))
    assert int(told["left"]) == funded - sent - int(told["landed"]["fee"])
    assert told["landed"] == {"version": 0, "fee": "5000", "err": None, "slot": told["status"]["slot"]}
    assert told["status"]["err"] is None
    assert int(told["blockhash"]["lastValidBlockHeight"]) > int(told["height"]) > 0
    # the system program's own error for too little
    assert told["refusal"]["custom"] == 1
    assert told["refusal"]["logs"][-1].endswith("custom program error: 0x1")
    assert told["account"] == {
        "exists": True, "lamports": str(sent), "owner": str(Pubkey.default()), "space": "0", "data": 0,
    }  # fmt: skip
    assert told["absent"] is False
    assert told["mint"]["type"] == "mint"
    assert told["mint"]["info"]["isInitialized"] is True


def events(played: Played, name: str) -> list[dict[str, Any]]:
    """What the transactions' logs say of one kind of event, in order."""
    assert name in TYPES
    return [event["data"] for event in played.told["logged"] if event["name"] == name]
