"""A market over HTTP on a free port, with a clock that moves only when told to."""

import asyncio
import base64
import time

import base58
import pytest
from aiohttp import ClientSession
from nacl.signing import SigningKey
from solders.keypair import Keypair
from solders.message import to_bytes_versioned
from solders.transaction import VersionedTransaction

from marketplace.app import Market
from marketplace.chain.bootstrap import OperatorKeys
from marketplace.services.clock import ManualClock, SystemRandom
from marketplace.services.key_ring import create_key_ring
from marketplace.settings import Settings
from tests.api.serving import ready
from tests.chain.market import localnet


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

    async def login(self, wallet: Wallet, purpose: str = "login") -> dict:
        _, challenge, _ = await self("GET", f"/v1/auth/challenge?wallet={wallet.address}&purpose={purpose}")
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
    """A market's settings. With a chain, a wallet may ask as often as a test does that waits for the chain, and a
    scripted node, which beats when its test says so, isn't lost for it, however slow the machine.
    """
    limits = {} if rpc == NO_CHAIN else {"wallet": 6000, "address": 6000}  # the published ones are for people
    patience = {} if rpc == NO_CHAIN else {"heartbeat_s": 600}
    create_key_ring(keys / "tokens.json", SystemRandom())
    OperatorKeys.ensure(keys)
    return Settings.model_validate(
        {
            "chain": {"rpc_url": rpc},
            "market": {"data_dir": folder, "keys_dir": keys, **patience},
            "api": {"port": 0, "base_url": "https://api.example.test"},
            "limits": limits,
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


DAY_S = 86_400
LONGEST_S = 60
"""Far longer than a test takes whose sums are a day's."""


@pytest.fixture
async def one_day():
    """The day of UTC in which the test begins is the one in which it ends: caps, prices and usage are a day's."""
    left = DAY_S - time.time() % DAY_S
    if left < LONGEST_S:
        await asyncio.sleep(left)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with localnet(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest.fixture
async def live_market(tmp_path, chain):
    market = Market.build(settings_in(tmp_path, chain.folder / "keys", chain.rpc))
    await market.start()
    await ready(market)
    yield market
    await market.stop()


@pytest.fixture
async def live_call(live_market):
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{live_market.port}")


class Renter(Wallet):
    """A funded wallet that is logged in, signs what it is given and waits until it landed."""

    def __init__(self, call, seed=None):
        super().__init__(seed)
        self.keypair = Keypair.from_seed(bytes(self.key))
        self.call = call
        self.token = ""

    @classmethod
    async def funded(cls, wallet, chain, market, call):
        """The wallet with what the faucet gives, logged in."""
        renter = cls(call, bytes(wallet.key))
        await asyncio.to_thread(chain.fund, renter.keypair.pubkey())
        async with asyncio.timeout(60):
            # The faucet answers before its transfers are `confirmed`, which is where the market looks.
            while (await market.vaults.get(renter.address)).wallet_balance == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        renter.token = (await call.login(renter))["token"]
        return renter

    async def __call__(self, method, path, **more):
        return await self.call(method, path, token=self.token, **more)

    def signed(self, transaction):
        unsigned = VersionedTransaction.from_bytes(base64.b64decode(transaction))
        signature = self.keypair.sign_message(to_bytes_versioned(unsigned.message))
        return base64.b64encode(bytes(VersionedTransaction.populate(unsigned.message, [signature]))).decode()

    async def send(self, prepared):
        status, sent, _ = await self(
            "POST", "/v1/transactions", json={"transaction": self.signed(prepared["transaction"])}
        )
        assert (status, sent["state"]) == (202, "sent"), sent
        async with asyncio.timeout(60):
            while True:
                status, found, _ = await self("GET", f"/v1/transactions/{sent['signature']}")
                assert status == 200
                if found["state"] in {"confirmed", "finalized", "failed", "expired"}:
                    assert found["state"] in {"confirmed", "finalized"}, found
                    return sent["signature"]
                await asyncio.sleep(0.02)

    async def deposit(self, amount):
        status, prepared, _ = await self("POST", "/v1/vault/deposit", json={"amount": amount})
        assert status == 200, prepared
        return await self.send(prepared)


@pytest.fixture
async def renter(chain, live_market, live_call):
    return await Renter.funded(Wallet(), chain, live_market, live_call)
