"""What belongs to one account is not there for another. The list of routes is the route table's, so none is forgotten.

A new placeholder fails this test until `belongings` makes one that belongs to somebody, or PUBLIC says that everybody
may see it.
"""

import re

import base58
import pytest
from nacl.signing import SigningKey

from marketplace.api.routes import Family
from marketplace.app import Market
from marketplace.domain.ids import AccountId, NodeId, new_id
from marketplace.domain.nodes import Node, NodeStatus
from marketplace.domain.quantities import Millis, Tokens
from marketplace.store.engine import Store
from marketplace.store.logins import Accounts
from marketplace.store.nodes import Nodes
from tests.api.conftest import Renter, Wallet, settings_in
from tests.api.serving import ready

PUBLIC = {
    "GET /v1/nodes/{node_id}", "GET /v1/nodes/{node_id}/earnings", "GET /v1/nodes/{node_id}/pool", "GET /v1/nodes/{node_id}/reputation",
    "GET /v1/stake/epochs/{epoch}", "GET /v1/models/{name}",
    "PUT /v1/models/{name}", "DELETE /v1/models/{name}",
}  # fmt: skip
"""Routes whose id names nothing of anybody's. Source: api.md sections 5.4 and 5.5; what admins change: test_admins.py."""
BODIES = {
    "POST /v1/nodes/{node_id}/drain": {"drain": True},
    "PATCH /v1/nodes/{node_id}": {"commission_bps": 100},
    "POST /v1/jobs/{job_id}/extend": {"additional_seconds": 60},
    "POST /v1/webhooks/{webhook_id}/replay": {"after": "0"},
}
"""Bodies of routes that need one: what is refused must be the id."""
QUERIES = {"GET /v1/jobs/{job_id}/download": "?format=archive"}
"""What is there of a job that left nothing: a 404 would be about its result."""
NODE_ID = NodeId(new_id("node", 1, 1))
NODE_KEY = SigningKey.generate()


@pytest.fixture
def owner():
    return Wallet()


@pytest.fixture
async def live_market(tmp_path, chain, owner):
    """A market that knew the owner's account and node before it started."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    settings = settings.model_copy(update={"limits": settings.limits.model_copy(update={"wallet": 1_000_000})})
    store = Store(settings.database)
    await store.open()
    account_id = AccountId(new_id("acct", 1, 1))
    node = Node(
        id=NODE_ID,
        node_key=base58.b58encode(bytes(NODE_KEY.verify_key)).decode(),
        address="1" * 32,
        operator=owner.address,
        account_id=account_id,
        class_id="cpu-small",
        region="eu",
        floor_per_hour=Tokens(1),
        status=NodeStatus.ACTIVE,
        declared="{}",
        joined_at_ms=0,
        register_key="k",
        body_hash=b"",
    )

    def known(tx):
        Accounts(tx).create(account_id, owner.address, Millis(0))
        Nodes(tx).create(node)

    await store.write(known)
    await store.close()
    market = Market.build(settings)
    await market.start()
    await ready(market)
    yield market
    await market.stop()


async def belongings(renter) -> dict[str, str]:
    """One of everything that an id can name, all of it the renter's; made as anybody would."""
    signature = await renter.deposit("5")
    caps = {"per_job": "1", "per_day": "5", "total": "20", "max_price_per_hour": "2"}
    _, grant, _ = await renter("POST", "/v1/allowance", json=caps | {"expires_at": "2099-01-01T00:00:00Z"})
    await renter.send(grant)
    wanted = {"image": "docker.io/library/busybox:1", "gpu": "cpu-small", "maxMinutes": 2}
    status, quote, _ = await renter("POST", "/v1/quote", json=wanted)
    assert status == 200, quote
    status, job, _ = await renter("POST", "/v1/jobs", json=wanted | {"max_price_per_hour": "1"})
    assert status == 201, job
    status, file, _ = await renter("POST", "/v1/files?name=a", data=b"a")
    assert status == 201, file
    status, upload, _ = await renter("POST", "/v1/files/uploads", json={"name": "a", "size": 1})
    assert status == 201, upload
    logins = []
    for name in ("a", "b"):
        auth = {"name": name, "username": "b", "password": "c"}
        status, login, _ = await renter("POST", "/v1/registry-auth", json=auth)
        assert status == 201, login
        logins.append(login["id"])
    status, key, _ = await renter("POST", "/v1/api-keys", json={"name": "k", "scopes": ["read"]})
    assert status == 201, key
    status, webhook, _ = await renter("POST", "/v1/webhooks", json={"url": "https://hooks.test/x"})
    assert status == 201, webhook
    order = {"job": wanted | {"max_price_per_hour": "1"}, "count": 1}
    storage = {
        "name": "s", "kind": "s3", "endpoint": "https://s3.test", "region": "r", "access_key": "a", "secret_key": "b",
    }  # fmt: skip
    status, credential, _ = await renter("POST", "/v1/credentials", json=storage)
    assert status == 201, credential
    status, group, _ = await renter("POST", "/v1/groups", json=order)
    assert status == 201, group
    return {
        "group_id": group["id"],
        "credential_id": credential["id"],
        "registry_auth_id": logins[0],
        "auth_id": logins[1],
        "webhook_id": webhook["id"],
        "key_id": key["id"],
        "file_id": file["file_id"],
        "upload_id": upload["upload_id"],
        "number": "1",
        "signature": signature,
        "address": job["escrow"],
        "quote_id": quote["id"],
        "job_id": job["id"],
        "node_id": NODE_ID,
    }


async def test_a_strangers_id_is_not_found(owner, live_market, live_call, chain):
    named = [
        route
        for route in live_market.routes
        if "{" in route.path and route.access.accounts and route.name not in PUBLIC
    ]
    assert named
    renter = await Renter.funded(owner, chain, live_market, live_call)
    own = await belongings(renter)
    unknown = {name for route in named for name in re.findall(r"{(\w+)}", route.path)} - own.keys()
    assert not unknown, "say whose these are"
    stranger = (await live_call.login(Wallet()))["token"]
    # The owner's own calls come last: some of them end what they name.
    for token, found in ((stranger, False), (renter.token, True)):
        for route in named:
            path = route.path.format(**own) + QUERIES.get(route.name, "")
            status, answer, _ = await live_call(route.method, path, token=token, json=BODIES.get(route.name))
            if found:
                assert status != 404, (route.name, answer)
            else:
                code = answer["error"] if isinstance(answer["error"], str) else answer["error"]["reason"]
                assert (status, code) == (404, "not_found"), route.name
                # The same words for an id that nobody has, and for what can't be one. Nodes are everybody's to see.
                placeholder = re.findall(r"{(\w+)}", route.path)[-1]
                if placeholder == "node_id" or route.family is not Family.NATIVE:
                    continue
                for other in (own[placeholder][:-4] + "1111", "nothing"):
                    path = route.path.format(**{**own, placeholder: other}) + QUERIES.get(route.name, "")
                    status, unknown, _ = await live_call(route.method, path, token=token, json=BODIES.get(route.name))
                    if status == 404:  # an address that is none is told as such
                        said = answer["message"].replace(own[placeholder], other)
                        assert unknown["message"] == said, route.name


async def test_a_node_acts_for_itself_only(live_market, live_call):
    node = Wallet(bytes(NODE_KEY))
    token = (await live_call.login(node, purpose="node"))["token"]
    other = NodeId(new_id("node", 2, 2))
    nodes_only = [route for route in live_market.routes if route.access.nodes and "{node_id}" in route.path]
    assert nodes_only
    for route in nodes_only:
        named = {"node_id": other, "aid": f"alloc_{other.removeprefix('node_')}", "path": "a"}
        path = re.sub(r":[^{}]+}", "}", route.path).format(**named)
        status, _, _ = await live_call(route.method, path, token=token)
        assert status == 404, route.name
    for route in live_market.routes:
        if not route.access.nodes and not route.access.everybody:
            path = re.sub(r"{\w+(:[^{}]+)?}", "x", route.path)
            assert (await live_call(route.method, path, token=token))[0] == 403, route.name
