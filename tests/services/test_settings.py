"""File < environment < flags; misspelt names are errors; secrets of URLs stay hidden."""

from pathlib import Path

import pytest

from marketplace.errors import SettingsError
from marketplace.settings import dump_settings, load_settings
from marketplace.store.engine import name_of


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(tmp_path, text):
    path = tmp_path / "market.toml"
    path.write_text(text)
    return path


def test_flags_win_over_the_environment_over_the_file(tmp_path, monkeypatch):
    path = write(tmp_path, "[api]\nport = 1\nhost = '127.0.0.2'\n[market]\nheartbeat_s = 2\n")
    assert load_settings(path).api.port == 1
    monkeypatch.setenv("REAVER_MARKET_API__PORT", "2")
    settings = load_settings(path)
    assert (settings.api.port, settings.api.host, settings.market.heartbeat_s) == (2, "127.0.0.2", 2)
    assert load_settings(path, {"api": {"port": 3}}).api.port == 3


def test_the_clients_variables_are_not_ours(monkeypatch):
    monkeypatch.setenv("REAVER_API", "http://127.0.0.1:8787")
    monkeypatch.setenv("REAVER_RPC", "http://127.0.0.1:8899")
    assert load_settings().api.port == 8787


def test_a_local_chains_section_says_where_it_is(tmp_path):
    settings = load_settings(write(tmp_path, "[chain]\nrpc_port = 5000\nslot_ms = 400\n[chain.faucet]\nsol = 1\n"))
    assert (settings.chain.rpc, settings.chain.ws) == ("http://127.0.0.1:5000", "ws://127.0.0.1:5001")


def test_the_repositorys_own_file_is_read():
    settings = load_settings(Path(__file__).parents[2] / "localnet.toml")
    assert settings.market.local


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[api]\nprot = 1\n", "api.prot"),
        ("[api]\nport = 70000\n", "api.port"),
        ("[api]\nbase_url = 'ftp://x'\n", "base_url"),
        ("[market]\ncluster = 'moon'\n", "market.cluster"),
        ("[api\n", "TOML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, named):
    with pytest.raises(SettingsError, match=named):
        load_settings(write(tmp_path, text))


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        load_settings(tmp_path / "absent.toml")


def test_a_dump_hides_what_urls_carry(tmp_path):
    settings = load_settings(write(tmp_path, "[chain]\nrpc_url = 'https://me:pw@rpc.example.test/v2/KEY?api-key=K'\n"))
    shown = dump_settings(settings)["chain"]["rpc_url"]
    assert shown == "https://rpc.example.test/…"


def test_a_database_is_a_file_or_a_url_whose_password_stays_hidden(tmp_path):
    url = "postgresql://market:sesame@127.0.0.1/market"
    settings = load_settings(write(tmp_path, f"[store]\nurl = '{url}'\n"))
    assert settings.database == url
    assert "sesame" not in repr(settings) + repr(dump_settings(settings)) + name_of(url)
    for wrong in ("mysql://market:sesame@127.0.0.1/market", f"{url}'\npath = 'market.sqlite3"):
        with pytest.raises(SettingsError) as refused:
            load_settings(write(tmp_path, f"[store]\nurl = '{wrong}'\n"))
        assert "sesame" not in str(refused.value)
