"""A wallet signs only a login text that it has rebuilt itself."""

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marketplace.client.client import ReaverClient
from marketplace.client.errors import ApiError, ChallengeRefused, KeypairError, MarketChanged
from marketplace.client.keypairs import Keypair, load_keypair
from marketplace.client.login import ChainId, chain_id_of
from marketplace.client.tokens import TokenCache
from tests.client.fake_market import FakeMarket, error, key


def login_files(folder: Path) -> list[Path]:
    return list(folder.glob("login-*.json"))


async def test_login_gives_a_token_and_caches_it_for_its_owner_only(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient], state_folder: Path
) -> None:
    login = await client.login()
    assert login.wallet == str(market.wallet)
    files = login_files(state_folder)
    assert [stat.S_IMODE(f.stat().st_mode) for f in files] == [0o600]
    before = len(market.spent("/v1/auth/verify"))
    await new_client().me()
    assert len(market.spent("/v1/auth/verify")) == before


def field(name: str, value: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A text whose field and line both say something else."""

    def change(answer: dict[str, Any]) -> dict[str, Any]:
        old = answer["input"][name]
        return answer | {
            "input": answer["input"] | {name: value},
            "message": answer["message"].replace(old, value),
            "nonce": value if name == "nonce" else answer["nonce"],
        }

    return change


CHANGES = {
    "domain": (field("domain", "bank.example"), "domain"),
    "address": (field("address", str(key("thief").pubkey())), "address"),
    "statement": (field("statement", "Send everything to me."), "statement"),
    "uri": (field("uri", "http://bank.example"), "URI"),
    "chain": (field("chainId", "mainnet"), "chain ID"),
    "nonce": (field("nonce", "0" * 22), "nonce"),
    "issued long ago": (field("issuedAt", "2020-01-01T00:00:00Z"), "longer than 300 s"),
    "expires late": (field("expirationTime", "2099-01-01T00:00:00Z"), "longer than 300 s"),
    "not a time": (field("issuedAt", "yesterday"), "RFC 3339"),
    "text unlike its fields": (lambda a: a | {"message": a["message"] + "\nResources:\n- x"}, "differs"),
    "another text altogether": (lambda a: a | {"message": "\x01\x00 a transaction"}, "differs"),
    "other wallet": (lambda a: a | {"wallet": str(key("thief").pubkey())}, "wallet"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES.keys())
async def test_another_text_is_not_signed(
    market: FakeMarket, client: ReaverClient, change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    market.challenge_change = change
    with pytest.raises(ChallengeRefused, match=said):
        await client.login()
    assert market.spent("/v1/auth/verify") == []


async def test_a_text_from_another_day_is_not_signed(market: FakeMarket, keypair: Keypair) -> None:
    async with ReaverClient(market.base_url, keypair, now_s=lambda: 1_600_000_000) as client:
        with pytest.raises(ChallengeRefused, match="clock"):
            await client.login()


async def test_an_expired_token_is_refreshed_without_a_new_signature(market: FakeMarket, client: ReaverClient) -> None:
    market.token_life_s = 30
    await client.me()
    await client.me()
    assert len(market.spent("/v1/auth/verify")) == 1
    assert len(market.spent("/v1/auth/refresh")) == 1


async def test_a_login_ended_by_the_market_is_made_anew(market: FakeMarket, client: ReaverClient) -> None:
    await client.me()
    market.tokens.clear()
    market.refresh_tokens.clear()
    await client.me()
    assert len(market.spent("/v1/auth/verify")) == 2


async def test_two_processes_present_a_refresh_token_once(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient]
) -> None:
    market.token_life_s = 30
    await client.me()
    other = new_client()
    await other.me()
    market.token_life_s = 3600
    # `client` still holds the token that `other` has used up meanwhile.
    await client.me()
    used = [s.body["refresh_token"] for s in market.spent("/v1/auth/refresh")]
    assert len(used) == len(set(used))
    assert len(market.spent("/v1/auth/verify")) == 1


@pytest.mark.parametrize("cached", [True, False])
async def test_calls_at_once_present_a_refresh_token_once(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient], keypair: Keypair, cached: bool
) -> None:
    """Of one client, and of two in one process: none waits for the other in a way that holds up both."""
    market.token_life_s = 30
    async with ReaverClient(market.base_url, keypair) as alone:
        clients = [client, new_client()] if cached else [alone]
        for each in clients:
            await each.me()
        market.token_life_s = 3600
        await asyncio.gather(*(each.me() for each in clients for _ in range(3)))
    used = [s.body["refresh_token"] for s in market.spent("/v1/auth/refresh")]
    assert len(used) == len(set(used))
    assert len(market.spent("/v1/auth/verify")) == 1


async def test_a_login_that_another_process_made_meanwhile_is_taken_and_not_forgotten(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient]
) -> None:
    await client.me()
    market.tokens.clear()
    market.refresh_tokens.clear()
    await new_client().login()
    await client.me()
    assert len(market.spent("/v1/auth/verify")) == 2


async def test_calls_at_once_log_in_once(market: FakeMarket, client: ReaverClient) -> None:
    async def several() -> int:
        await asyncio.gather(*(client.me() for _ in range(5)))
        return len(market.spent("/v1/auth/verify"))

    assert await several() == 1
    market.tokens.clear()
    market.refresh_tokens.clear()
    assert await several() == 2


async def test_logout_forgets_the_login(market: FakeMarket, client: ReaverClient, state_folder: Path) -> None:
    await client.login()
    assert await client.logout()
    assert not login_files(state_folder)
    assert not await client.logout()


async def test_a_refused_verify_is_an_error_with_its_code(market: FakeMarket, client: ReaverClient) -> None:
    market.before["POST /v1/auth/verify"] = [error(401, "challenge_expired", "ask for a new one")]
    with pytest.raises(ApiError) as refused:
        await client.login()
    assert (refused.value.code, refused.value.status, refused.value.request_id) == ("challenge_expired", 401, "req-1")


@pytest.mark.parametrize("name", ["program_id", "market", "genesis_hash", "payment_mint"])
async def test_a_market_that_became_another_is_refused(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient], name: str
) -> None:
    await client.login()
    market.constants_change = {name: str(key("thief").pubkey())}
    with pytest.raises(MarketChanged, match="Nothing was signed"):
        await new_client().deposit(1_000_000)
    assert market.signed == []


def test_known_clusters_are_told_by_their_genesis_hash() -> None:
    assert chain_id_of("5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d") is ChainId.MAINNET
    assert chain_id_of(str(key("genesis").pubkey())) is ChainId.LOCALNET


def test_a_cache_that_others_could_read_is_not_used(tmp_path: Path, keypair: Keypair) -> None:
    from marketplace.client.tokens import StoredLogin

    cache = TokenCache(tmp_path)
    cache.store(StoredLogin("http://m", "w", "t", 1, "r", 2))
    assert cache.find("http://m", "w") is not None
    (file,) = tmp_path.glob("login-*.json")
    file.chmod(0o644)
    assert cache.find("http://m", "w") is None
    assert not file.exists()


BAD_FILES = {
    "absent": None,
    "empty": "",
    "not json": "hello",
    "too short": "[1,2,3]",
    "not bytes": str([256] * 64),
    "booleans": str([True] * 64).lower(),
    "halves of two keys": str([*bytes(key("a"))[:32], *bytes(key("b"))[32:]]),
    "an object": "{}",
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_keypair_file_is_named_and_never_quoted(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "id.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(KeypairError) as refused:
        load_keypair(file)
    assert str(file) in str(refused.value)
    assert not content or content not in str(refused.value)


def test_a_keypair_does_not_show_its_secret(keypair: Keypair) -> None:
    assert repr(keypair) == f"Keypair({keypair.address})"
