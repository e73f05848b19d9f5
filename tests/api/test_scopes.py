"""Each scope alone on each route: what a credential may touch. The list of routes is the route table's."""

import re

import pytest
from aiohttp import ClientSession

from marketplace.app import Market
from marketplace.domain.ids import KeyId, NodeId, new_id
from marketplace.domain.quantities import Millis, Tokens
from marketplace.services.api_keys import key_hash
from marketplace.services.principals import Scope
from marketplace.store.api_keys import ApiKey, ApiKeys
from marketplace.store.logins import Accounts
from tests.api.conftest import Caller

OWNERS = {
    "/v1/jobs": Scope.JOBS, "/v1/groups": Scope.JOBS, "/v1/quote": Scope.JOBS, "/v1/quotes": Scope.JOBS, "/v1/files": Scope.FILES, "/v1/credentials": Scope.FILES,
    "/v1/vault": Scope.MONEY, "/v1/allowance": Scope.MONEY, "/v1/escrows": Scope.MONEY,
    "/v1/transactions": Scope.MONEY, "/v1/nodes": Scope.NODES, "/v1/stake": Scope.STAKE, "/v1/api-keys": Scope.KEYS,
    "/v1/events": Scope.WEBHOOKS, "/v1/webhooks": Scope.WEBHOOKS, "/v1/registry-auth": Scope.COMPUTE, "/v1/usage": Scope.MONEY,
    "/v1/gpu-types": Scope.NODES, "/v1/models": Scope.JOBS, "/v1/prices": Scope.NODES, "/registry-auth": Scope.COMPUTE,
}  # fmt: skip
"""Which scope writes under a path. A new path fails this test until it stands here. Source: api.md section 4.5."""
ANY_SCOPE = {"GET /v1/me", "POST /v1/auth/logout"}
ADMINS = {"PUT /v1/models/{name}", "DELETE /v1/models/{name}"}
READS_BY_POST = {"POST /v1/quote", "POST /v1/stake/simulate"}
"""Asks and changes nothing."""
ACTS_BY_GET = {"GET /v1/jobs/{job_id}/exec"}
"""A socket through which something is done."""
IDS = {
    "node_id": NodeId(new_id("node", 1, 1)), "job_id": new_id("job", 1, 1), "group_id": new_id("grp", 1, 1), "quote_id": new_id("quote", 1, 1),
    "key_id": new_id("key", 1, 1), "file_id": new_id("file", 1, 1), "credential_id": new_id("cred", 1, 1),
}  # fmt: skip


@pytest.fixture
async def market(settings, clock, wallet):
    changes = {
        "limits": settings.limits.model_copy(update={"wallet": 1_000_000}),
        "market": settings.market.model_copy(update={"admins": (wallet.address,)}),
    }
    settings = settings.model_copy(update=changes)
    market = Market.build(settings, clock=clock)
    await market.start()
    yield market
    await market.stop()


@pytest.fixture
async def call(market):
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{market.port}")


async def key_with(market, account_id, scope):
    secret = f"rk_{scope}"
    key = ApiKey(
        id=KeyId(market.ids.new("key")), account_id=account_id, create_key=secret, key_hash=key_hash(secret),
        prefix="", name=scope, scopes=scope, rate_class="wallet", per_day=None, total=None, spent=Tokens(0),
        created_at=Millis(0), expires_at=None, last_used_at=None,
    )  # fmt: skip
    await market.store.write(lambda tx: ApiKeys(tx).create(key))
    return secret


def allowed(route) -> set[Scope]:
    """The scopes that the design gives to this route."""
    if route.name in ANY_SCOPE:
        return set(Scope)
    (owner,) = {scope for path, scope in OWNERS.items() if f"{route.path}/".startswith(f"{path}/")}
    if owner is Scope.KEYS and route.method != "GET":
        return {owner}
    if route.name in ADMINS:
        return {Scope.ADMIN}
    reads = route.method == "GET" and route.name not in ACTS_BY_GET
    return {owner, Scope.READ} if reads or route.name in READS_BY_POST else {owner}


async def test_each_scope_alone_opens_its_own_routes_only(market, call, wallet):
    await call.login(wallet)
    account_id = await market.store.read(lambda tx: Accounts(tx).find_by_wallet(wallet.address))
    routes = [route for route in market.routes if route.access.accounts and not route.access.everybody]
    assert len(routes) > 30
    for scope in Scope:
        secret = await key_with(market, account_id, scope)
        for route in routes:
            path = re.sub(r"{(\w+)(?::[^}]*)?}", lambda m: IDS.get(m[1], "1"), route.path)
            status, answer, _ = await call(route.method, path, headers={"X-Api-Key": secret})
            body = answer if status != 403 or isinstance(answer["error"], str) else answer["error"]
            refused = status == 403 and "required_scope" in body
            assert refused == (scope not in allowed(route)), (route.name, str(scope), status, answer)
            assert status != 401, (route.name, answer)
