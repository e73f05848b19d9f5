"""A market over HTTP on a free port, with a clock that moves only when told to."""

import base58
import pytest
from aiohttp import ClientSession
from nacl.signing import SigningKey

from marketplace.app import Market
from marketplace.chain.bootstrap import OperatorKeys
from marketplace.services.clock import ManualClock, SystemRandom
from marketplace.services.key_ring import create_key_ring
from marketplace.settings import Settings


class Wallet:
    """A keypair that logs in."""

    def __init__(self, seed: bytes | None = None) -> None:
        self.key = SigningKey(seed) if seed else SigningKey.generate()
        self.address = base58.b58encode(bytes(self.key.verify_key)).decode()

    def sign(self, text: str) -> str:
        return base58.b58encode(self.key.sign(text.encode()).signature).decode()


class Caller:
    """HTTP calls to one market, with or without a token."""

    def __init__(self, session: ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def __call__(self, method: str, path: str, *, token=None, headers=None, **more):
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self.session.request(method, self.base + path, headers=headers, **more) as response:
            raw = await response.read()
            body = await response.json() if raw and "json" in response.content_type else raw
            return response.status, body, response.headers

    async def login(self, wallet: Wallet) -> dict:
        _, challenge, _ = await self("GET", f"/v1/auth/challenge?wallet={wallet.address}")
        body = {"wallet": wallet.address, "signature": wallet.sign(challenge["message"])}
        status, session, _ = await self("POST", "/v1/auth/verify", json=body)
        assert status == 200, session
        return session


@pytest.fixture
def clock():
    return ManualClock()


NO_CHAIN = "http://127.0.0.1:9"
"""The discard port: nothing answers, as when the chain is down."""


def settings_in(folder, keys, rpc=NO_CHAIN):
    create_key_ring(keys / "tokens.json", SystemRandom())
    OperatorKeys.ensure(keys)
    return Settings.model_validate(
        {
            "chain": {"rpc_url": rpc},
            "market": {"data_dir": folder, "keys_dir": keys},
            "api": {"port": 0, "base_url": "https://api.example.test"},
        }
    )


@pytest.fixture
def settings(tmp_path):
    return settings_in(tmp_path, tmp_path / "keys")


@pytest.fixture
async def market(settings, clock):
    market = Market.build(settings, clock=clock)
    await market.start()
    yield market
    await market.stop()


@pytest.fixture
async def call(market):
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{market.port}")


@pytest.fixture
def wallet():
    return Wallet()
