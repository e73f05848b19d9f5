"""`reaver-market admin` on a real chain: what it says before it signs, and what the chain says afterwards."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import NodeStatus, Params
from marketplace.chain.addresses import NULL_ADDRESS, class_id
from marketplace.chain.bootstrap import local_admin
from marketplace.chain.errors import TransactionFailed
from marketplace.chain.parameters import BOUNDS, PAUSE_BITS, out_of_bounds
from tests.chain.jobs import settled_job
from tests.chain.market import Actor
from tests.cli.market.conftest import Operator

pytestmark = pytest.mark.xdist_group("admin-localnet")


def key_file(folder: Path, key: Keypair) -> str:
    path = folder / f"{key.pubkey()}.json"
    path.write_text(json.dumps(list(bytes(key))))
    return str(path)


# looking


def test_status_shows_deployment_and_market_without_reading_a_secret_it_lacks(operator: Operator) -> None:
    (operator.keys / "meter.json").unlink()
    done = operator("admin", "status", "--json")
    assert done.exit_code == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["deployment"]["admin"] == str(local_admin().pubkey())
    assert shown["classes"]["cpu-small"] == {"bond": "50.000000", "enabled": True}
    market = shown["market"]
    assert market["address"] == str(operator.running.market.market)
    assert (market["matcher"]["file_here"], market["meter"]["file_here"]) == (True, False)
    text = operator("admin", "status").stdout
    assert "owed to market:" in text
    assert "next to close:" in text


def test_status_of_a_deployment_needs_no_key_at_all(operator: Operator) -> None:
    for file in operator.keys.iterdir():
        file.unlink()
    shown = json.loads(operator("admin", "status", "--json").stdout)
    assert "market" not in shown
    named = operator("admin", "status", "--json", "--market", str(operator.running.market.market))
    assert json.loads(named.stdout)["market"]["fee_bps"] >= 0


def test_a_chain_that_is_away_is_told(operator: Operator) -> None:
    done = operator("admin", "status", "--rpc", "http://127.0.0.1:9")
    assert done.exit_code == 1
    assert done.stderr.startswith("reaver-market: ")
    assert "give the same command again" in done.stderr
    assert "Traceback" not in done.stderr


# parameters


def test_parameters_are_shown_as_they_are_set(operator: Operator) -> None:
    shown = json.loads(operator("admin", "params", "show", "--json").stdout)
    assert set(shown) == {field.name for field in fields(Params)}
    assert shown["overclaim_bps"] == {"value": "2000bps", "units": 2_000, "least": "0bps", "most": "10000bps"}
    assert shown["lost_after"]["most"] == "1d"
    assert shown["minimum_deposit"]["value"] == "0.001000"
    assert "lost_after" in operator("admin", "params", "show").stdout


def test_setting_parameters_says_before_and_after_and_changes_nothing_else(operator: Operator) -> None:
    before = operator.config_account().params
    done = operator("admin", "params", "set", "overclaim_bps=25%", "contest=7s", "minimum_deposit=0.002", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["effects"] == [
        "overclaim_bps: 2000bps → 2500bps", "contest: 5s → 7s", "minimum_deposit: 0.001000 → 0.002000",
    ]  # fmt: skip
    assert "sending set parameters" in done.stderr
    after = operator.config_account().params
    assert after == replace(before, overclaim_bps=2_500, contest=7_000, minimum_deposit=2_000)
    again = operator("admin", "params", "set", "contest=7s", "--json")
    assert json.loads(again.stdout) == {"done": None, "because": "every number is already as asked for"}
    back = operator("admin", "params", "set", "overclaim_bps=2000", "contest=5s", "minimum_deposit=0.001")
    assert back.exit_code == 0
    assert back.stdout.startswith("Confirmed: set parameters\nTransaction ")


WRONG_PARAMETERS = {
    "unknown": (("nonsense=1",), "there is no parameter 'nonsense'"),
    "no value": (("contest",), "'contest' is not NAME=VALUE"),
    "kind": (("contest=fast",), "contest is a length such as 45s"),
    "no unit": (("contest=5",), "contest is a length such as 45s"),
    "bounds": (("contest=0s",), "contest is between 1s and 365d, not 0s"),
    "part": (("decay_bps=101%",), "decay_bps is between 0bps and 10000bps, not 10100bps"),
    "two at once": (("decay_bps=101%", "queue_limit=400d"), "queue_limit is between 1s and 365d, not 400d"),
    "fees": (("max_market_bps=9950",), "together at most, not 10050bps"),
    "skew": (("skew=7s",), "skew is at most lost_after (6s), not 7s"),
    "epochs": (("unbonding=39s",), "unbonding is at least two epochs (40s), not 39s"),
    "contest": (("contest=61s",), "unbonding is at least the contest window (61s), not 1m"),
    "twice": (("contest=6s", "contest=7s"), "contest is given twice"),
    "deposit": (("minimum_deposit=0",), "minimum_deposit is between 0.000001"),
    "places": (("minimum_deposit=0.0000001",), "minimum_deposit is payment tokens"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG_PARAMETERS.values(), ids=WRONG_PARAMETERS.keys())
def test_a_number_that_can_not_be_is_refused_in_words(
    operator: Operator, arguments: tuple[str, ...], words: str
) -> None:
    before = operator.config_account()
    done = operator("admin", "params", "set", *arguments)
    assert done.exit_code == 1
    assert words in done.stderr
    assert operator.config_account() == before


def test_the_bounds_are_the_programs_own(operator: Operator) -> None:
    """Each bound at its edge and one beyond, simulated by the program: both agree on every one."""

    async def compare(actor: Actor) -> list[str]:
        config = await actor.reader.get_config()
        admin, disagreements = local_admin().pubkey(), []
        room = replace(config.params, unbonding=BOUNDS["unbonding"].most, lost_after=BOUNDS["lost_after"].most)
        for name, bound in BOUNDS.items():
            for value in (bound.least, bound.least - 1, bound.most, bound.most + 1):
                if not 0 <= value < 2**64:
                    continue
                base = config.params if name in {"unbonding", "lost_after"} else room
                params = replace(base, **{name: value})
                if name == "protocol_bps":
                    params = replace(params, max_market_bps=0)
                if name == "max_market_bps":
                    params = replace(params, protocol_bps=0)
                if name == "lost_after":
                    params = replace(params, skew=0)
                ours = out_of_bounds(params, payment_decimals=6, epoch_length=config.epoch_length)
                refusal = None
                try:
                    await actor.assembler.assemble(
                        [actor.calls.set_params(admin, params)], actor.keys.authority.pubkey()
                    )
                except TransactionFailed as error:
                    refusal = error.error_name
                if refusal != ("ParameterOutOfBounds" if ours else None):
                    disagreements.append(
                        f"{name}={value}: we say {ours or 'good'}, the program {refusal or 'takes it'}"
                    )
        return disagreements

    assert operator.on_chain(compare) == []


def test_a_strangers_key_is_refused_before_anything_is_sent(operator: Operator, tmp_path: Path) -> None:
    stranger = key_file(tmp_path, Keypair())
    done = operator("admin", "params", "set", "contest=8s", "--admin", stranger)
    assert done.exit_code == 1
    assert f"the deployment's admin is {local_admin().pubkey()}" in done.stderr
    missing = operator("admin", "pause", "bond", "--admin", str(tmp_path / "none.json"))
    assert (missing.exit_code, "does not exist" in missing.stderr) == (1, True)


# pauses


def test_pausing_by_name(operator: Operator) -> None:
    done = operator("admin", "pause", "delegate", "bond", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["effects"] == ["paused: nothing → delegate, bond"]
    assert operator.config_account().paused == PAUSE_BITS["delegate"] | PAUSE_BITS["bond"]
    assert json.loads(operator("admin", "status", "--json").stdout)["deployment"]["paused"] == ["delegate", "bond"]
    assert "closed already: bond" in operator("admin", "pause", "bond").stdout
    assert operator("admin", "unpause", "delegate").exit_code == 0
    assert operator.config_account().paused == PAUSE_BITS["bond"]
    assert operator("admin", "pause", "all").exit_code == 0
    assert operator.config_account().paused == 127
    assert operator("admin", "unpause", "all").exit_code == 0
    assert operator.config_account().paused == 0
    wrong = operator("admin", "pause", "withdraw")
    assert (wrong.exit_code, "there is no way in called 'withdraw'" in wrong.stderr) == (1, True)


# the administrator


def test_the_administration_changes_hands_in_two_steps(operator: Operator, tmp_path: Path) -> None:
    heir = Keypair()
    operator.on_chain(lambda actor: actor.fund(heir.pubkey()))
    file = key_file(tmp_path, heir)
    early = operator("admin", "accept-admin", "--admin", file)
    assert (early.exit_code, "the deployment's proposed admin is" in early.stderr) == (1, True)
    assert operator("admin", "propose-admin", str(heir.pubkey())).exit_code == 0
    assert operator.config_account().admin == local_admin().pubkey()
    assert operator("admin", "propose-admin", "--withdraw").exit_code == 0
    assert operator.config_account().pending_admin == NULL_ADDRESS
    assert operator("admin", "propose-admin", str(heir.pubkey())).exit_code == 0
    assert "proposed already" in operator("admin", "propose-admin", str(heir.pubkey())).stdout
    done = operator("admin", "accept-admin", "--admin", file)
    assert done.exit_code == 0, done.stderr
    config = operator.config_account()
    assert (config.admin, config.pending_admin) == (heir.pubkey(), NULL_ADDRESS)
    former = operator("admin", "pause", "bond")
    assert (former.exit_code, f"admin is {heir.pubkey()}" in former.stderr) == (1, True)
    back = str(local_admin().pubkey())
    assert operator("admin", "propose-admin", back, "--admin", file).exit_code == 0
    operator.on_chain(lambda actor: actor.fund(local_admin().pubkey()))
    assert operator("admin", "accept-admin", "--admin", key_file(tmp_path, local_admin())).exit_code == 0
    assert operator.config_account().admin == local_admin().pubkey()


@pytest.mark.parametrize("arguments", [(), (str(Keypair().pubkey()), "--withdraw")])
def test_proposing_nobody_or_both_is_wrong_usage(operator: Operator, arguments: tuple[str, ...]) -> None:
    done = operator("admin", "propose-admin", *arguments)
    assert (done.exit_code, "or give --withdraw" in done.stderr) == (1, True)


# classes


def test_a_class_is_made_changed_and_disabled(operator: Operator) -> None:
    assert "make it with --bond" in operator("admin", "class", "set", "l40s").stderr
    made = operator("admin", "class", "set", "l40s", "--bond", "1500", "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["effects"] == ["l40s: none → a bond of 1500.000000 stake tokens, enabled"]
    assert operator("admin", "class", "set", "l40s", "--disable").exit_code == 0
    found = operator.on_chain(lambda actor: actor.reader.find_class(class_id("l40s")))
    assert found is not None
    assert (found.minimum_bond, found.enabled) == (1_500_000_000, False)
    assert "already like that" in operator("admin", "class", "set", "l40s", "--disable").stdout
    wrong = operator("admin", "class", "set", "l40s", "--bond", "1,5")
    assert (wrong.exit_code, "is not an amount" in wrong.stderr) == (1, True)
    long = operator("admin", "class", "set", "x" * 17, "--bond", "1")
    assert (long.exit_code, "at most 16 ASCII" in long.stderr) == (1, True)


# the market's fee and earnings


def test_a_fee_is_announced_with_its_delay(operator: Operator) -> None:
    done = operator("admin", "set-fee", "3.5%", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["effects"] == ["fee: 400bps → 350bps, 20s after this lands"]
    market = operator.market_account()
    assert (market.pending_fee_bps, market.pending_fee_at > 0) == (350, True)
    pending = json.loads(operator("admin", "status", "--json").stdout)["market"]
    assert pending["pending_fee"] is None or pending["pending_fee"]["bps"] == 350
    # Another announcement replaces it: the other tests' claims bind the fee of the moment.
    again = json.loads(operator("admin", "set-fee", "400", "--json").stdout)
    assert again["effects"][1:] in (["replaces the announced 350bps"], [])
    high = operator("admin", "set-fee", "2001")
    assert (high.exit_code, "at most 2000bps here, not 2001bps" in high.stderr) == (1, True)
    assert "basis points (250) or a percentage" in operator("admin", "set-fee", "much").stderr


def test_fees_are_withdrawn_and_swept_as_recorded(operator: Operator) -> None:
    operator.on_chain(settled_job)
    before = operator.market_account()
    assert before.market_owed > 0
    assert before.protocol_owed > 0
    own = operator.on_chain(lambda actor: _balance(actor, actor.calls.payment_account(actor.keys.authority.pubkey())))
    done = operator("admin", "withdraw-fees", "--json")
    assert done.exit_code == 0, done.stderr
    after = operator.market_account()
    assert (after.market_owed, after.protocol_owed) == (0, before.protocol_owed)
    paid = operator.on_chain(lambda actor: _balance(actor, actor.calls.payment_account(actor.keys.authority.pubkey())))
    assert paid - own == before.market_owed
    protocol = operator.config_account().protocol_token
    held = operator.on_chain(lambda actor: _balance(actor, protocol))
    assert operator("admin", "sweep").exit_code == 0
    assert operator.market_account().protocol_owed == 0
    assert operator.on_chain(lambda actor: _balance(actor, protocol)) - held == before.protocol_owed
    assert "has earned nothing" in operator("admin", "withdraw-fees").stdout
    assert "owes the protocol nothing" in operator("admin", "sweep").stdout


def test_fees_go_to_accounts_of_the_payment_token_only(operator: Operator) -> None:
    operator.on_chain(settled_job)
    done = operator("admin", "withdraw-fees", "--to", str(Keypair().pubkey()))
    assert (done.exit_code, "is no account of the payment token" in done.stderr) == (1, True)
    stranger = operator("admin", "withdraw-fees", "--to", "not-base58")
    assert (stranger.exit_code, "Traceback" in stranger.stderr) == (1, False)


# nodes


def test_a_node_is_suspended_and_resumed(operator: Operator) -> None:
    node = operator.on_chain(lambda actor: actor.node())
    done = operator("admin", "suspend-node", str(node.key.pubkey()), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["effects"][0] == "status: active → suspended"
    shown = json.loads(operator("admin", "status", "--json").stdout)["market"]["nodes"]
    assert shown[str(node.key.pubkey())]["status"] == "suspended"
    assert "suspended already" in operator("admin", "suspend-node", str(node.key.pubkey())).stdout
    address = operator.on_chain(lambda actor: _address(actor, node.key.pubkey()))
    assert operator("admin", "resume-node", str(address)).exit_code == 0
    found = operator.on_chain(lambda actor: actor.reader.find_node(node.key.pubkey()))
    assert found is not None
    assert found.status == NodeStatus.ACTIVE
    unknown = operator("admin", "suspend-node", str(Keypair().pubkey()))
    assert (unknown.exit_code, "neither a node's key nor" in unknown.stderr) == (1, True)


# keys


@pytest.fixture
def rotating(operator: Operator) -> Iterator[Operator]:
    """The module's keys with SOL; the chain's market has them again afterwards, for the other tests."""

    async def fund(actor: Actor) -> None:
        for key in (actor.keys.matcher.pubkey(), actor.keys.meter.pubkey()):
            before = await actor.rpc.get_balance(key)
            await actor.rpc.request_airdrop(key, 5_000_000_000)
            async with asyncio.timeout(30):
                while await actor.rpc.get_balance(key) == before:  # noqa: ASYNC110 - what a person does
                    await asyncio.sleep(0.05)

    async def rotate_back(actor: Actor) -> None:
        authority = actor.keys.authority
        call = actor.calls.rotate_keys(authority.pubkey(), actor.keys.matcher.pubkey(), actor.keys.meter.pubkey())
        await actor.send([call], authority)

    operator.on_chain(fund)
    yield operator
    operator.on_chain(rotate_back)


def test_rotating_keeps_the_old_keys_and_moves_their_sol(rotating: Operator) -> None:
    before = rotating.market_account()
    done = rotating("admin", "rotate-keys", "--json")
    assert done.exit_code == 0, done.stderr
    after = rotating.market_account()
    told = json.loads(done.stdout)
    assert all("stay for what it still signs" in line for line in told["sol"])
    assert (str(after.matcher), str(after.meter)) == (told["matcher"], told["meter"])
    assert {after.matcher, after.meter}.isdisjoint({before.matcher, before.meter})
    for name in ("matcher", "meter"):
        assert _key(rotating.keys / f"{name}.json") == getattr(after, name)
        kept = rotating.keys / "retired" / f"{name}-{getattr(before, name)}.json"
        assert (_key(kept), kept.stat().st_mode & 0o777) == (getattr(before, name), 0o600)
        assert not (rotating.keys / f"{name}.next.json").exists()
        assert rotating.on_chain(lambda actor, key=getattr(after, name): actor.rpc.get_balance(key)) > 10**9


@pytest.mark.parametrize("moved", ["neither", "matcher"])
def test_a_rotation_that_was_cut_off_is_completed(rotating: Operator, moved: str) -> None:
    new = {name: Keypair() for name in ("matcher", "meter")}
    for name, key in new.items():
        target = rotating.keys / (f"{name}.json" if name == moved else f"{name}.next.json")
        target.write_text(json.dumps(list(bytes(key))))

    async def landed(actor: Actor) -> None:
        authority = actor.keys.authority
        call = actor.calls.rotate_keys(authority.pubkey(), new["matcher"].pubkey(), new["meter"].pubkey())
        await actor.send([call], authority)

    rotating.on_chain(landed)
    done = rotating("admin", "rotate-keys", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["signature"] is None
    assert {name: _key(rotating.keys / f"{name}.json") for name in new} == {n: k.pubkey() for n, k in new.items()}


def test_keys_written_before_a_crash_are_the_ones_that_are_used(rotating: Operator) -> None:
    prepared = Keypair()
    (rotating.keys / "meter.next.json").write_text(json.dumps(list(bytes(prepared))))
    assert rotating("admin", "rotate-keys").exit_code == 0
    assert rotating.market_account().meter == prepared.pubkey()


def test_a_folder_without_the_markets_keys_says_so(rotating: Operator) -> None:
    (rotating.keys / "meter.json").write_text(json.dumps(list(bytes(Keypair()))))
    before = rotating.market_account()
    done = rotating("admin", "rotate-keys")
    assert done.exit_code == 1
    assert "--replace-lost" in done.stderr
    assert rotating.market_account() == before
    lost = rotating("admin", "rotate-keys", "--replace-lost")
    assert lost.exit_code == 0, lost.stderr
    assert rotating.market_account().meter == _key(rotating.keys / "meter.json")


def _key(path: Path) -> Pubkey:
    return Keypair.from_bytes(bytes(json.loads(path.read_text()))).pubkey()


async def _balance(actor: Actor, account: Pubkey) -> int:
    found = await actor.reader.find_token_account(account)
    return 0 if found is None else found.amount


async def _address(actor: Actor, node_key: Pubkey) -> Pubkey:
    return actor.calls.addresses.node(node_key)
