import json
from dataclasses import replace
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import ClassAccount, Params
from marketplace.chain.addresses import associated_token_address, class_id
from marketplace.chain.bootstrap import MarketPlan, OperatorKeys, initialize_market, local_admin
from marketplace.chain.constants import CLASS_BONDS, DEFAULT, LOCALNET
from marketplace.chain.errors import AccountMismatch, AccountMissing
from marketplace.chain.keyfiles import create_keypair, ensure_keypair, load_keypair
from marketplace.chain.reader import TokenAccountState
from marketplace.errors import SettingsError
from tests.chain.market import Actor

pytestmark = pytest.mark.xdist_group("chain-localnet")

TOKEN = 1_000_000


def plan(actor: Actor, **changes: object) -> MarketPlan:
    base = MarketPlan(
        program=actor.running.market.deployment.program,
        keys_dir=actor.running.folder / "keys",
        profile=LOCALNET,
        local=True,
        payment_mint=actor.running.market.deployment.payment_mint,
        stake_mint=actor.running.market.deployment.stake_mint,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


async def test_a_second_run_does_nothing_and_says_the_same(actor: Actor) -> None:
    lines: list[str] = []
    again = await initialize_market(actor.rpc, plan(actor), progress=lines.append)
    assert again.done == ()
    assert lines == []
    assert again == replace(actor.running.market, done=())


async def test_the_deployment_is_what_the_profile_says(actor: Actor) -> None:
    config = await actor.reader.get_config()
    assert config.admin == local_admin().pubkey()
    assert config.params == LOCALNET.params(6, 6)
    assert config.epoch_length == 20_000
    assert config.scheduled_emission <= LOCALNET.first_emission * TOKEN
    assert config.scheduled_emission > 0
    market = await actor.reader.get_market(actor.market)
    assert (market.fee_bps, market.matcher, market.meter) == (
        400,
        actor.keys.matcher.pubkey(),
        actor.keys.meter.pubkey(),
    )
    for name, bond in CLASS_BONDS.items():
        entry = await actor.reader.find_class(class_id(name))
        assert entry is not None
        assert entry.minimum_bond == bond * TOKEN
    fees = await actor.reader.find_token_account(market.fee_vault)
    assert fees is not None
    assert (fees.owner, fees.state) == (actor.market, TokenAccountState.INITIALIZED)  # other tests may have paid in
    protocol = associated_token_address(local_admin().pubkey(), config.payment_mint)
    assert config.protocol_token == protocol
    assert await actor.reader.get_deployment() == actor.running.market.deployment


async def test_a_second_market_shares_the_deployment(actor: Actor, tmp_path: Path) -> None:
    second = await initialize_market(actor.rpc, plan(actor, keys_dir=tmp_path / "keys", market_fee_bps=150))
    assert second.deployment == actor.running.market.deployment
    assert second.market != actor.market
    assert (await actor.reader.get_market(second.market)).fee_bps == 150
    for name in OperatorKeys.names():
        assert (tmp_path / "keys" / f"{name}.json").stat().st_mode & 0o777 == 0o600


async def test_a_classs_bond_is_corrected_by_the_admin_only(actor: Actor, tmp_path: Path) -> None:
    address = actor.calls.addresses.hardware_class(class_id("v100"))
    wanted = {"v100": 300}
    stranger = plan(actor, keys_dir=tmp_path, class_bonds=wanted, admin=Keypair())
    lines: list[str] = []
    found = await initialize_market(actor.rpc, stranger, progress=lines.append)
    assert found.classes == {}
    assert any("v100" in line and "admin" in line for line in lines)
    assert await actor.reader.find(ClassAccount, address) is None
    found = await initialize_market(actor.rpc, plan(actor, class_bonds=wanted))
    assert found.classes == {"v100": 300 * TOKEN}
    corrected = await initialize_market(actor.rpc, plan(actor, class_bonds={"v100": 301}))
    assert corrected.done == ("class v100 with a bond of 301",)


async def test_what_can_not_be_changed_is_an_error_that_says_so(actor: Actor, tmp_path: Path) -> None:
    with pytest.raises(AccountMismatch, match="stake mint"):
        await initialize_market(actor.rpc, plan(actor, stake_mint=Pubkey.new_unique()))
    with pytest.raises(AccountMissing, match="no program"):
        await initialize_market(actor.rpc, plan(actor, program=Pubkey.new_unique()))
    for name in OperatorKeys.names():
        (tmp_path / f"{name}.json").write_bytes((actor.running.folder / "keys" / f"{name}.json").read_bytes())
    (tmp_path / "meter.json").unlink()
    with pytest.raises(AccountMismatch, match="rotate"):
        await initialize_market(actor.rpc, plan(actor, keys_dir=tmp_path))


def test_the_program_takes_every_profile() -> None:
    """The bounds of programs/reaver_market/src/state/config.rs that depend on each other."""
    for profile in (DEFAULT, LOCALNET):
        params: Params = profile.params(6, 9)
        assert params.skew <= params.lost_after
        assert params.unbonding >= 2 * profile.windows.epoch_length
        assert params.unbonding >= params.contest
        assert params.protocol_bps + profile.market_fee_bps <= params.protocol_bps + params.max_market_bps <= 10_000
    assert DEFAULT.params(6, 6).exposure_rate == 1_000_000
    assert DEFAULT.params(9, 6).exposure_rate == 1_000_000_000
    assert DEFAULT.params(6, 9).exposure_rate == 1_000
    assert DEFAULT.params(6, 6).minimum_deposit == 1_000
    assert DEFAULT.params(2, 6).minimum_deposit == 1


def test_a_keypair_file_is_as_solanas_tools_write_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "id.json"
    key = create_keypair(path)
    assert bytes(json.loads(path.read_text())) == bytes(key)
    assert load_keypair(path) == ensure_keypair(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingsError, match="not overwritten"):
        create_keypair(path)


@pytest.mark.parametrize("content", ["", "{}", "[1,2,3]", "[" + "300," * 63 + "1]", '"x"', "[" + "1," * 63 + "1]"])
def test_a_broken_keypair_file_is_named_and_not_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "id.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"id\.json") as caught:
        load_keypair(path)
    assert "300" not in str(caught.value)
    with pytest.raises(SettingsError, match="does not exist"):
        load_keypair(tmp_path / "none.json")


def test_the_local_admin_is_the_programs_compiled_in_key() -> None:
    source = Path(__file__).parents[2] / "programs" / "reaver_market" / "src" / "admin_key.rs"
    assert str(local_admin().pubkey()) in source.read_text()
