"""The small market with `/v1/stake`: what it answers follows api.md 5.6, and tests make it lie."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from solders.pubkey import Pubkey

from marketplace.chain.builders import CallBuilder
from marketplace.domain.money import parse_amount
from tests.client.fake_market import DECIMALS, NODE, FakeMarket, Steps, key

SHARES = 25_000_000


@dataclass
class StakeMarket(FakeMarket):
    """offer_change: applied to every prepared answer."""

    offer_change: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda answer: answer)
    node_change: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.node_key = key("node").pubkey()
        self.node_account = self.at.node(self.node_key)
        self.pool = self.at.pool(self.node_account)
        self.build = CallBuilder(self.deployment)

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/v1/stake/positions", self._positions)
        app.router.add_post("/v1/stake/delegate", self._delegate)
        app.router.add_post("/v1/stake/claim", self._claim)
        app.router.add_post("/v1/stake/unbond", self._unbond)
        app.router.add_post("/v1/stake/withdraw", self._withdraw_tickets)
        return app

    async def _node(self, request: web.Request) -> web.Response:
        self._caller(request)
        known = {"node_key": str(self.node_key), "address": str(self.node_account)}
        return web.json_response(NODE | known | self.node_change)

    async def _positions(self, request: web.Request) -> web.Response:
        owner = self._caller(request)
        nothing = {"payment": "0.000000", "stake": "0.000000"}
        position = {
            "node_id": "node_1", "node": str(self.node_account), "pool": str(self.pool), "stake": "25.000000",
            "shares": str(SHARES), "value_now": "25.000000", "pending": nothing, "share_of_pool": 0.25,
            "commission_bps": 1_000, "pending_commission": None, "uptime_factor": None, "tickets": [],
            "status": "active", "bond": False,
        }  # fmt: skip
        totals = {
            "stake": "25.000000", "value_now": "25.000000", "unbonding": "0.000000", "withdrawable": "0.000000",
            "pending": nothing,
        }  # fmt: skip
        return web.json_response({"positions": [position], "totals": totals, "wallet": owner, "currency": "USDC"})

    async def _delegate(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        amount = parse_amount((await request.json())["amount"], DECIMALS)
        return self._offer([self.build.delegate(owner, self.node_account, amount)], owner, {"shares": str(amount)})

    async def _claim(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        return self._offer([self.build.claim(owner, self.pool)], owner, {})

    async def _unbond(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        body = await request.json()
        shares = SHARES if body.get("all") else int(body["shares"]) if "shares" in body else 0
        shares = shares or parse_amount(body["amount"], DECIMALS)
        return self._offer([self.build.unbond(owner, self.pool, shares, 3)], owner, {"shares": str(shares), "index": 3})

    async def _withdraw_tickets(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        return self._offer([self.build.withdraw_ticket(owner, self.pool, 3)], owner, {"index": 3})

    def ticket(self, owner: Pubkey, index: int) -> str:
        return str(self.at.ticket(self.at.position(self.pool, owner), index))

    def _offer(self, steps: Steps, owner: Pubkey, item: dict[str, Any]) -> web.Response:
        names = {"node_id": "node_1", "node": str(self.node_account), "pool": str(self.pool)}
        answer = {
            "transaction": self.compile(steps, owner),
            "expires_at": "2026-01-01T00:00:00Z",
            "summary": "harmless, believe me",
            "effects": {"wallet_stake": {"before": "100.000000", "after": "75.000000"}},
            "simulation": {"ok": True, "units": 9_000, "error": None},
            "items": [names | {"ticket_id": None, "index": None, "shares": None} | item],
            "remaining": [],
            "currency": "USDC",
        }
        return web.json_response(self.offer_change(answer))
