"""Node logins, and races that HTTP tests can't aim at."""

import asyncio

import base58
import pytest
from nacl.signing import SigningKey

from marketplace.domain import quantities
from marketplace.domain.ids import AccountId, NodeId, new_id
from marketplace.domain.nodes import Node, NodeStatus
from marketplace.errors import ChallengeExpired, Unauthenticated
from marketplace.services.clock import Ids, ManualClock, SystemRandom
from marketplace.services.key_ring import create_key_ring
from marketplace.services.logins import LoginService, Purpose, SignInText
from marketplace.services.principals import AccountPrincipal, NodePrincipal
from marketplace.services.tokens import Tokens
from marketplace.store.engine import Store
from marketplace.store.nodes import Nodes

NODE_ID = NodeId(new_id("node", 1, 1))


def node_with(key, status=NodeStatus.ACTIVE):
    return Node(
        id=NODE_ID,
        node_key=key,
        address="address",
        operator="operator",
        account_id=AccountId("acct_operator"),
        class_id="cpu-small",
        region="eu",
        floor_per_hour=quantities.Tokens(1),
        status=status,
        declared="{}",
        joined_at_ms=0,
        register_key="k",
        body_hash=b"",
    )


class Parts:
    """A login service over a real store."""

    def __init__(self, folder):
        self.clock, random = ManualClock(), SystemRandom()
        self.store = Store(folder / "market.sqlite3")
        ring = create_key_ring(folder / "tokens.json", random)
        self.tokens = Tokens(ring, "https://api.example.test", self.store, self.clock, random)
        self.logins = LoginService(
            self.store,
            self.tokens,
            ring,
            SignInText("api.example.test", "https://api.example.test", "localnet"),
            self.clock,
            random,
            Ids(self.clock, random),
        )


@pytest.fixture
def key():
    return SigningKey.generate()


def address(key):
    return base58.b58encode(bytes(key.verify_key)).decode()


def sign(key, text):
    return base58.b58encode(key.sign(text.encode()).signature).decode()


@pytest.fixture
async def parts(tmp_path, key):
    parts = Parts(tmp_path)
    await parts.store.open()
    await parts.store.write(lambda tx: Nodes(tx).create(node_with(address(key))))
    yield parts
    await parts.store.close()


async def verify(parts, key, issued):
    return await parts.logins.verify(
        address(key), sign(key, issued.challenge.message), "1.2.3.4", nonce=None, signed_message=None
    )


async def test_a_node_key_logs_in_as_its_node_only(parts, key):
    issued = await parts.logins.issue_challenge(address(key), Purpose.NODE, "1.2.3.4")
    assert f"as the node {address(key)}" in issued.challenge.message
    session = await verify(parts, key, issued)
    principal = await parts.tokens.authenticate(session.token)
    assert principal == NodePrincipal(NODE_ID, address(key), principal.login_id)


async def test_the_same_key_is_a_wallet_under_the_other_purpose(parts, key):
    issued = await parts.logins.issue_challenge(address(key), Purpose.LOGIN, "1.2.3.4")
    session = await verify(parts, key, issued)
    assert isinstance(await parts.tokens.authenticate(session.token), AccountPrincipal)


async def test_a_signature_for_one_purpose_never_counts_for_the_other(parts, key):
    node = await parts.logins.issue_challenge(address(key), Purpose.NODE, "1.2.3.4")
    await parts.logins.issue_challenge(address(key), Purpose.LOGIN, "1.2.3.4")
    session = await verify(parts, key, node)
    assert isinstance(await parts.tokens.authenticate(session.token), NodePrincipal)


async def test_an_unregistered_node_key_is_refused_and_its_challenge_stays(parts):
    stranger = SigningKey.generate()
    issued = await parts.logins.issue_challenge(address(stranger), Purpose.NODE, "1.2.3.4")
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="not registered"):
            await verify(parts, stranger, issued)


async def test_a_retired_node_is_refused(parts, key):
    await parts.store.write(lambda tx: Nodes(tx).update(node_with(address(key), NodeStatus.RETIRED)))
    issued = await parts.logins.issue_challenge(address(key), Purpose.NODE, "1.2.3.4")
    with pytest.raises(Unauthenticated, match="not registered"):
        await verify(parts, key, issued)


async def test_of_two_verifies_at_once_one_wins(parts, key):
    issued = await parts.logins.issue_challenge(address(key), Purpose.LOGIN, "1.2.3.4")
    results = await asyncio.gather(*(verify(parts, key, issued) for _ in range(8)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ChallengeExpired"] * 7 + ["Session"]


async def test_of_two_refreshes_at_once_one_wins_and_the_login_ends(parts, key):
    issued = await parts.logins.issue_challenge(address(key), Purpose.LOGIN, "1.2.3.4")
    session = await verify(parts, key, issued)
    results = await asyncio.gather(
        *(parts.logins.refresh(session.refresh_token, None) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["RefreshReused", "Session"]
    with pytest.raises(Unauthenticated):
        await parts.tokens.authenticate(session.token)


async def test_a_revocation_by_another_replica_is_seen_within_5_seconds(parts, key):
    issued = await parts.logins.issue_challenge(address(key), Purpose.LOGIN, "1.2.3.4")
    session = await verify(parts, key, issued)
    login_id = (await parts.tokens.authenticate(session.token)).login_id
    await parts.store.write(
        lambda tx: tx.change("UPDATE logins SET revoked_at_ms = 1 WHERE id = :id", {"id": login_id})
    )
    parts.clock.advance(4_999)
    await parts.tokens.authenticate(session.token)
    parts.clock.advance(1)
    with pytest.raises(Unauthenticated):
        await parts.tokens.authenticate(session.token)


async def test_what_is_past_its_time_is_forgotten(parts, key):
    issued = await parts.logins.issue_challenge(address(key), Purpose.LOGIN, "1.2.3.4")
    await verify(parts, key, issued)
    await parts.logins.issue_challenge(address(key), Purpose.LOGIN, "1.2.3.4")
    parts.clock.advance(300_000)
    assert await parts.logins.forget_expired() == 1
    parts.clock.advance(2_592_000_000)
    assert await parts.logins.forget_expired() == 2
    with pytest.raises(ChallengeExpired):
        await verify(parts, key, issued)
