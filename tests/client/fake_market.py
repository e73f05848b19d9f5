"""A small market that follows api.md over real HTTP, with real transactions, and that can be told to lie.

It has no chain: a correctly signed transaction counts as landed. Everything it answers is built from what it was
sent, by the same chain package that the real market uses.
"""

import asyncio
import base64
import hashlib
import itertools
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import base58
from aiohttp import web
from nacl.signing import SigningKey, VerifyKey
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from marketplace.api.native.job_bodies import QuoteRequest
from marketplace.chain.addresses import Addresses, associated_token_address
from marketplace.chain.builders import AllowanceTerms, CallBuilder, Deployment, EscrowRef, EscrowTerms
from marketplace.chain.instructions import ProgramInstruction
from marketplace.chain.program import AnchorCodec
from marketplace.domain.catalogue import class_bytes
from marketplace.domain.money import amount_due, format_amount, parse_amount
from marketplace.protocol.quotes import QuotePayload, issue
from marketplace.protocol.siws import SignInInput
from marketplace.protocol.terms import JobSpec, terms_hash
from marketplace.services.job_orders import read_order

DECIMALS = 6
PRICE_PER_HOUR = 360_000
PROGRAM = Pubkey.from_string("5qwExNyh26kwngLGHpXEPD4PgoiZWia8neGpQRPJUSyN")

Steps = list[ProgramInstruction | Instruction]


def key(name: str) -> Keypair:
    return Keypair.from_seed(name.encode().ljust(32, b"."))


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    body: Any
    key: str | None
    headers: dict[str, str]


@dataclass
class FakeMarket:
    """State of the market; tests set the fields that make it fail or lie.

    steps: applied to the steps of every transaction before it is compiled. payer: who pays the fee instead of the
    wallet. program: which one is really called. before: answers in place of the route, while any are left; "drop"
    breaks the connection, "drop after" does so after the work is done.
    """

    base_url: str = ""
    allowance: bool = False
    vault_exists: bool = True
    steps: Callable[[Steps, "FakeMarket"], Steps] = lambda steps, _market: steps
    payer: Pubkey | None = None
    program: Pubkey = PROGRAM
    constants_change: dict[str, Any] = field(default_factory=dict)
    challenge_change: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
    quote_change: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
    before: dict[str, list[web.Response | str]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    signed: list[bytes] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    landed_keys: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=lambda: ["one", "two", "three"])
    log_breaks_after: list[int] = field(default_factory=list)
    passing: list[dict[str, Any]] = field(default_factory=list)
    """What the next looks at a job see instead, each once."""
    outputs: dict[str, bytes] = field(default_factory=dict)
    """What every job left. In `delivered` other bytes come than were promised."""
    delivered: dict[str, bytes] = field(default_factory=dict)
    log_never_ends: bool = False
    states: list[str] = field(default_factory=list)
    unseen: int = 0
    exit_code: int = 0
    token_life_s: int = 3600

    def __post_init__(self) -> None:
        self.wallet: Pubkey | None = None
        self.quote_key = SigningKey(b"q" * 32)
        self.authority = key("authority").pubkey()
        self.at = Addresses(PROGRAM)
        self.market = self.at.market(self.authority)
        self.deployment = Deployment(
            program=PROGRAM,
            genesis_hash=bytes(key("genesis").pubkey()),
            payment_mint=key("mint").pubkey(),
            stake_mint=key("stake").pubkey(),
            payment_decimals=DECIMALS,
            stake_decimals=DECIMALS,
        )
        self.challenges: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.refresh_tokens: dict[str, str] = {}
        self.quotes: dict[str, dict[str, Any]] = {}
        self.transactions: dict[str, tuple[str, bytes]] = {}
        self.pending: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._nonces: dict[str, int] = {}

    # the application

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._record])
        add = app.router.add_route
        add("GET", "/v1/auth/challenge", self._challenge)
        add("POST", "/v1/auth/verify", self._verify)
        add("POST", "/v1/auth/refresh", self._refresh)
        add("POST", "/v1/auth/logout", self._logout)
        add("GET", "/v1/constants", self._constants)
        add("GET", "/v1/me", self._me)
        add("POST", "/v1/quote", self._quote)
        add("GET", "/v1/quotes/{id}", self._get_quote)
        add("POST", "/v1/jobs", self._submit)
        add("GET", "/v1/jobs", self._list_jobs)
        add("GET", "/v1/jobs/{id}", self._get_job)
        add("GET", "/v1/jobs/{id}/logs", self._logs)
        add("POST", "/v1/jobs/{id}/cancel", self._cancel)
        add("GET", "/v1/jobs/{id}/receipt", self._receipt)
        add("GET", "/v1/jobs/{id}/outputs", self._outputs)
        add("GET", "/v1/jobs/{id}/download", self._download)
        add("GET", "/v1/nodes", self._nodes)
        add("GET", "/v1/nodes/{id}", self._node)
        add("GET", "/v1/vault", self._vault)
        add("POST", "/v1/vault/deposit", self._deposit)
        add("POST", "/v1/vault/withdraw", self._withdraw)
        add("GET", "/v1/allowance", self._allowances)
        add("POST", "/v1/allowance", self._grant)
        add("DELETE", "/v1/allowance", self._revoke)
        add("GET", "/v1/escrows/{address}", self._escrow)
        add("POST", "/v1/escrows/{address}/cancel", self._cancel_escrow)
        add("POST", "/v1/transactions", self._send)
        add("GET", "/v1/transactions/{signature}", self._transaction)
        return app

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else None
        seen = Seen(request.method, request.path, body, request.headers.get("Idempotency-Key"), dict(request.headers))
        self.seen.append(seen)
        planned = self.before.get(f"{request.method} {request.path}")
        if planned:
            answer = planned.pop(0)
            if isinstance(answer, web.Response):
                return answer
            if answer == "drop after":
                await handler(request)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        response: web.StreamResponse = await handler(request)
        return response

    def spent(self, path: str) -> list[Seen]:
        return [s for s in self.seen if s.path == path and s.method in {"POST", "DELETE"}]

    def _caller(self, request: web.Request) -> str:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise web.HTTPUnauthorized(
                text=json.dumps({"error": "unauthorized", "message": "log in", "status": 401}),
                content_type="application/json",
            )
        return self.tokens[token]

    # login

    async def _challenge(self, request: web.Request) -> web.Response:
        wallet = request.query["wallet"]
        issued = datetime.now(UTC)
        fields = SignInInput(
            domain=self.base_url.split("://")[1],
            address=wallet,
            statement="Sign in to Reaver. No funds move.",
            uri=self.base_url,
            chain_id="localnet",
            nonce="".join(secrets.choice("123456789ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(22)),
            issued_at=issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
            expiration_time=(issued + timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        answer = self.challenge_change(
            {
                "wallet": wallet,
                "message": fields.message(),
                "nonce": fields.nonce,
                "issued_at": fields.issued_at,
                "expires_at": fields.expiration_time,
                "input": fields.as_input(),
            }
        )
        self.challenges[answer["nonce"]] = answer["message"]
        return web.json_response(answer)

    async def _verify(self, request: web.Request) -> web.Response:
        body = await request.json()
        message = self.challenges.pop(body["nonce"]).encode()
        VerifyKey(bytes(Pubkey.from_string(body["wallet"]))).verify(message, base58.b58decode(body["signature"]))
        self.wallet = Pubkey.from_string(body["wallet"])
        return self._tokens(body["wallet"])

    def _tokens(self, wallet: str) -> web.Response:
        number = next(self._numbers)
        token, refresh = f"token-{number}", f"rt_{number}"
        self.tokens[token] = wallet
        self.refresh_tokens[refresh] = wallet
        return web.json_response(
            {
                "token": token,
                "expiresIn": self.token_life_s,
                "refresh_token": refresh,
                "refresh_expires_in": 2_592_000,
            }
        )

    async def _refresh(self, request: web.Request) -> web.Response:
        body = await request.json()
        wallet = self.refresh_tokens.pop(body["refresh_token"], None)
        if wallet is None:
            return error(401, "refresh_reused", "log in again")
        return self._tokens(wallet)

    async def _logout(self, request: web.Request) -> web.Response:
        self._caller(request)
        self.tokens.clear()
        self.refresh_tokens.clear()
        return web.Response(status=204)

    async def _constants(self, _request: web.Request) -> web.Response:
        chain = {
            "program_id": str(PROGRAM),
            "genesis_hash": str(Pubkey.from_bytes(self.deployment.genesis_hash)),
            "payment_mint": str(self.deployment.payment_mint),
            "stake_mint": str(self.deployment.stake_mint),
            "decimals": DECIMALS,
            "market": str(self.market),
            "matcher_key": str(key("matcher").pubkey()),
            "meter_key": str(key("meter").pubkey()),
            "quote_key": base58.b58encode(bytes(self.quote_key.verify_key)).decode(),
        }
        return web.json_response({"chain": chain | self.constants_change})

    async def _me(self, request: web.Request) -> web.Response:
        wallet = self._caller(request)
        return web.json_response({"id": "acct_1", "wallet": wallet, "wallets": [wallet], "scopes": ["read", "jobs"]})

    # quotes and jobs

    def spec_of(self, body: dict[str, Any]) -> JobSpec:
        # As the real market reads it: the client's own reading is what is tested.
        return read_order(QuoteRequest.model_validate(body).fields(), decimals=DECIMALS, image_needed=True).spec

    async def _quote(self, request: web.Request) -> web.Response:
        self._caller(request)
        body = await request.json()
        spec = self.spec_of({"image": "any"} | body)
        total = amount_due(PRICE_PER_HOUR, spec.limit_ms)
        number = f"quote_{next(self._numbers)}"
        expires = datetime.now(UTC) + timedelta(seconds=300)
        payload = QuotePayload(
            id=number,
            market=str(self.market),
            class_id=spec.class_id,
            gpu_count=spec.gpu_count,
            regions=spec.regions,
            priority="normal",
            max_seconds=spec.limit_ms // 1000,
            price_per_hour=PRICE_PER_HOUR,
            max_total=total,
            spec_hash=spec.spec_hash().hex(),
            expires_at_ms=int(expires.timestamp() * 1000),
        )
        answer = {
            "id": number,
            "quote": issue(payload, bytes(self.quote_key)),
            "estimated_cost": 0.05,
            "estimated_time_seconds": 600,
            "expected_cost": "0.050000",
            "max_total": format_amount(total, DECIMALS),
            "price_per_gpu_second": "0.000100000000",
            "price_per_hour": format_amount(PRICE_PER_HOUR, DECIMALS),
            "price_per_hour_units": PRICE_PER_HOUR,
            "currency": "USDC",
            "fees": {"market_bps": 400, "protocol_bps": 100, "node_share_bps": 5000, "included": True},
            "chain_costs": {
                "signatures": 4,
                "lamports_fees": 20000,
                "lamports_rent_refundable": 3000000,
                "paid_by": "market",
            },
            "class": spec.class_id,
            "gpu_count": spec.gpu_count,
            "regions": list(spec.regions),
            "max_seconds": spec.limit_ms // 1000,
            "priority": "normal",
            "spec_hash": spec.spec_hash().hex(),
            "nodes_now": 2,
            "sample": [],
            "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "match": True,
        }
        self.quotes[number] = answer
        return web.json_response(self.quote_change(answer))

    async def _get_quote(self, request: web.Request) -> web.Response:
        return web.json_response(self.quotes[request.match_info["id"]])

    async def _submit(self, request: web.Request) -> web.Response:
        wallet = self._caller(request)
        body = await request.json()
        idempotency_key = request.headers["Idempotency-Key"]
        if body["quote_id"] not in self.quotes:
            return error(409, "quote_expired", "take a new quote")
        if idempotency_key not in self.by_key:
            landed = idempotency_key in self.landed_keys and self.unseen == 0
            self.unseen = max(0, self.unseen - (idempotency_key in self.landed_keys))
            if not (self.allowance or landed):
                return self._signature_required(wallet, body, idempotency_key)
            self._new_job(body, idempotency_key)
        job = self.jobs[self.by_key[idempotency_key]]
        answer = {
            "id": job["id"],
            "status": "queued",
            "job_id": job["id"],
            "estimated_cost": 0.05,
            "estimated_time_seconds": 600,
            "currency": "USDC",
            "max_cost": "0.050000",
            "quote_id": body["quote_id"],
            "escrow": job["settlement"]["escrow"],
            "transaction": "5" * 88,
            "created_at": job["created_at"],
        }
        return web.json_response(answer, status=201)

    def _signature_required(self, wallet: str, body: dict[str, Any], idempotency_key: str) -> web.Response:
        spec = self.spec_of(body)
        owner = Pubkey.from_string(wallet)
        # The nonce of a key never changes; another key takes the next one.
        nonce = self._nonces.setdefault(idempotency_key, len(self._nonces) + 1)
        reference = EscrowRef(wallet=owner, opener=owner, nonce=nonce, market=self.market, rent_payer=owner)
        deposit = amount_due(PRICE_PER_HOUR, spec.limit_ms)
        terms = EscrowTerms(
            nonce=nonce,
            class_id=class_bytes(spec.class_id),
            terms_hash=terms_hash(spec.spec_hash(), idempotency_key),
            ceiling_price=PRICE_PER_HOUR,
            deposit=deposit,
            max_time_ms=spec.limit_ms,
            attempts_allowed=3,
        )
        build = CallBuilder(self.deployment)
        steps: Steps = [] if self.vault_exists else [build.open_vault(owner, owner)]
        steps.append(build.deposit(owner, owner, deposit))
        steps.append(build.open_escrow(reference, owner, terms))
        live = [text for text, owner_key in self.pending.items() if owner_key == idempotency_key]
        transaction = live[0] if live else self.compile(steps, owner)
        self.pending[transaction] = idempotency_key
        return web.json_response(
            {
                "error": "signature_required",
                "message": "sign the transaction",
                "status": 402,
                "request_id": "r",
                "retryable": True,
                "transaction": transaction,
                "escrow": str(build.escrow_address(reference)),
                "expires_at": "2026-01-01T00:00:00Z",
                "idempotency_key": idempotency_key,
                "deposit": format_amount(deposit, DECIMALS),
                "currency": "USDC",
                "blocked_by": "no_allowance",
                "summary": "opens an escrow and does nothing else, believe me",
            },
            status=402,
        )

    def _new_job(self, body: dict[str, Any], idempotency_key: str) -> None:
        number = f"job_{next(self._numbers)}"
        self.by_key[idempotency_key] = number
        self.jobs[number] = {
            "job_id": number,
            "status": "completed" if self.exit_code == 0 else "failed",
            "progress": 100,
            "miner_id": "node_1",
            "created_at": "2026-02-13T10:00:00Z",
            "started_at": "2026-02-13T10:00:01Z",
            "completed_at": "2026-02-13T10:00:05Z",
            "result": None,
            "id": number,
            "node_id": "node_1",
            "cost": "0.000400",
            "currency": "USDC",
            "reason": "completed" if self.exit_code == 0 else "app_error",
            "reason_text": None,
            "exit_code": self.exit_code,
            "error": None,
            "queue": None,
            "attempts": [],
            "image": body["image"],
            "region": [body["region"]] if "region" in body else [],
            "settlement": {
                "escrow": str(key("escrow").pubkey()),
                "state": "closed",
                "deposit": "0.050000",
                "price_per_hour": "0.360000",
                "billed_ms": 4000,
                "paid": "0.000400",
                "operator_received": "0.000380",
                "fees": {"market": "0.000008", "protocol": "0.000004", "stakers": "0.000008"},
                "refunded": "0.049600",
                "compensation": {"amount": "0.000000", "currency": "STAKE"},
                "transactions": [
                    {
                        "signature": "5" * 88,
                        "slot": 7,
                        "purpose": "settle",
                        "signatures": 2,
                        "fee_lamports": 10000,
                        "fee_payer": "x",
                    }
                ],
                "signatures": 4,
                "rent_left_lamports": 0,
                "settled_at": "2026-02-13T10:00:06Z",
            },
        }

    async def _list_jobs(self, request: web.Request) -> web.Response:
        self._caller(request)
        rows = list(reversed(self.jobs.values()))
        return web.json_response({"jobs": rows, "total": len(rows), "has_more": False})

    async def _get_job(self, request: web.Request) -> web.Response:
        self._caller(request)
        job = self.jobs.get(request.match_info["id"])
        if job is not None and self.passing:
            job = job | self.passing.pop(0)
        return (
            error(404, "not_found", "there is no job here", resource="job") if job is None else web.json_response(job)
        )

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        self._caller(request)
        if request.query.get("follow") != "1":
            return web.Response(text="".join(f"{line}\n" for line in self.log))
        after = int(request.headers.get("Last-Event-ID", "0"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        breaks = self.log_breaks_after.pop(0) if self.log_breaks_after else None
        for number, line in enumerate(self.log, start=1):
            if number <= after:
                continue
            data = json.dumps({"seq": number, "ts": "t", "stream": "stdout", "line": line, "attempt": 1})
            await response.write(f"id: {number}\nevent: log\ndata: {data}\n\n".encode())
            if number == breaks:
                assert request.transport is not None
                request.transport.close()
                return response
        while self.log_never_ends:
            # The write fails once the follower is gone.
            await response.write(b": keep-alive\n\n")
            await asyncio.sleep(0.05)
        job = self.jobs[request.match_info["id"]]
        end = json.dumps({"status": job["status"], "reason": job["reason"]})
        await response.write(f": keep-alive\n\nid: {len(self.log) + 1}\nevent: end\ndata: {end}\n\n".encode())
        return response

    async def _outputs(self, request: web.Request) -> web.Response:
        self._caller(request)
        offset = int(request.query.get("offset", "0"))
        rows = [
            {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in self.outputs.items()
        ]
        page = rows[offset : offset + 2]
        return web.json_response(
            {
                "outputs": page,
                "total": len(rows),
                "has_more": offset + len(page) < len(rows),
                "total_bytes": 0,
                "manifest_sha256": None,
            }
        )

    async def _download(self, request: web.Request) -> web.Response:
        self._caller(request)
        return web.Response(body=(self.outputs | self.delivered)[request.query["path"]])

    async def _cancel(self, request: web.Request) -> web.Response:
        self._caller(request)
        job = self.jobs[request.match_info["id"]]
        job |= {"status": "cancelled", "reason": "cancelled", "exit_code": None}
        self.log_never_ends = False
        return web.json_response(job)

    async def _receipt(self, request: web.Request) -> web.Response:
        self._caller(request)
        return web.json_response({"job_id": request.match_info["id"], "price": "400", "unit_price": 0.1})

    async def _nodes(self, request: web.Request) -> web.Response:
        self._caller(request)
        return web.json_response({"nodes": [NODE], "total": 1, "has_more": False})

    async def _node(self, request: web.Request) -> web.Response:
        self._caller(request)
        return web.json_response(NODE)

    # money

    async def _vault(self, request: web.Request) -> web.Response:
        wallet = Pubkey.from_string(self._caller(request))
        vault = self.at.vault(wallet)
        return web.json_response(
            {
                "wallet": str(wallet),
                "vault": str(vault),
                "token_account": str(self.at.vault_tokens(vault)),
                "mint": str(self.deployment.payment_mint),
                "currency": "USDC",
                "decimals": DECIMALS,
                "balance": "20.000000",
                "locked": "0.050000",
                "available": "19.950000",
                "wallet_balance": "5.000000",
                "escrows_open": 1,
                "runway_seconds": None,
            }
        )

    async def _deposit(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        amount = parse_amount((await request.json())["amount"], DECIMALS)
        build = CallBuilder(self.deployment)
        return self._prepared([build.open_vault(owner, owner), build.deposit(owner, owner, amount)], owner)

    async def _withdraw(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        text = (await request.json())["amount"]
        amount = 19_950_000 if text == "all" else parse_amount(text, DECIMALS)
        return self._prepared([CallBuilder(self.deployment).withdraw(owner, amount)], owner)

    async def _allowances(self, request: web.Request) -> web.Response:
        self._caller(request)
        return web.json_response({"allowances": []})

    async def _grant(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        body = await request.json()
        terms = AllowanceTerms(
            escrow_cap=parse_amount(body["per_job"], DECIMALS),
            day_cap=parse_amount(body["per_day"], DECIMALS),
            total_cap=parse_amount(body["total"], DECIMALS),
            max_price=parse_amount(body["max_price_per_hour"], DECIMALS),
            expires_at_ms=int(datetime.fromisoformat(body["expires_at"]).timestamp() * 1000),
        )
        return self._prepared([CallBuilder(self.deployment).grant_allowance(owner, owner, self.market, terms)], owner)

    async def _revoke(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        return self._prepared([CallBuilder(self.deployment).revoke_allowance(owner, self.market)], owner)

    def waiting_escrow(self, owner: Pubkey, nonce: int = 7) -> EscrowRef:
        """One that this wallet opened and no node is assigned to."""
        return EscrowRef(wallet=owner, opener=owner, nonce=nonce, market=self.market, rent_payer=owner)

    async def _escrow(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        return web.json_response(
            {
                "address": request.match_info["address"], "state": "open", "opener": str(owner),
                "market": str(self.market), "nonce": 7, "gpu": "cpu-small", "price_ceiling_per_hour": "0.360000",
                "deposit": "0.060000", "paid": "0.000000", "reserve": "0.000000", "currency": "USDC",
                "max_ms": 600_000, "billed_ms": 0, "opened_at": "2026-01-01T00:00:00Z",
                "assign_by": "2026-01-01T01:00:00Z", "stop_at": None, "attempt": 0, "node": None,
                "rent_lamports": 1, "allocation_id": None,
            }
        )  # fmt: skip

    async def _cancel_escrow(self, request: web.Request) -> web.Response:
        owner = Pubkey.from_string(self._caller(request))
        builder = CallBuilder(self.deployment)
        return self._prepared([builder.cancel_escrow(self.waiting_escrow(owner), owner)], owner)

    def _prepared(self, steps: Steps, owner: Pubkey) -> web.Response:
        return web.json_response(
            {
                "transaction": self.compile(steps, owner),
                "expires_at": "2026-01-01T00:00:00Z",
                "summary": "harmless, believe me",
            }
        )

    def compile(self, steps: Steps, owner: Pubkey) -> str:
        codec = AnchorCodec(self.program)
        changed = self.steps(list(steps), self)
        wire = [codec.instruction(s) if isinstance(s, ProgramInstruction) else s for s in changed]
        message = MessageV0.try_compile(self.payer or owner, wire, [], Hash.new_unique())
        return unsigned(message)

    async def _send(self, request: web.Request) -> web.Response:
        self._caller(request)
        text = (await request.json())["transaction"]
        raw = base64.b64decode(text)
        transaction = VersionedTransaction.from_bytes(raw)
        assert all(transaction.verify_with_results()), "the wallet's signature must be good"
        self.signed.append(raw)
        signature = str(transaction.signatures[0])
        self.transactions[signature] = ("confirmed", raw)
        blank = unsigned(transaction.message)
        if blank in self.pending and "expired" not in self.states:
            self.landed_keys.add(self.pending[blank])
        return web.json_response({"signature": signature, "state": "sent"}, status=202)

    async def _transaction(self, request: web.Request) -> web.Response:
        self._caller(request)
        state, raw = self.transactions[request.match_info["signature"]]
        if self.states:
            state = self.states.pop(0)
        if state == "expired":
            self.pending.pop(unsigned(VersionedTransaction.from_bytes(raw).message), None)
        return web.json_response({"state": state, "slot": 5, "error": None})

    def own_tokens(self, owner: Pubkey) -> Pubkey:
        return associated_token_address(owner, self.deployment.payment_mint)


NODE = {
    "id": "node_1",
    "class": "cpu-small",
    "region": "eu",
    "reputation": 0.97,
    "uptime": 1,
    "name": "\x1b[31mred\x1b[0m",
    "status": "active",
    "available": True,
    "gpu_count": 2,
    "free_gpus": 1,
    "price_floor_per_hour": "0.350000",
    "operator": "abc",
    "bond": "50.000000",
    "stake": "50.000000",
}


def unsigned(message: Any) -> str:
    blank = [Signature.default()] * message.header.num_required_signatures
    return base64.b64encode(bytes(VersionedTransaction.populate(message, blank))).decode()


def error(status: int, code: str, message: str, *, retry_after: int | None = None, **extra: Any) -> web.Response:
    body = {"error": code, "message": message, "status": status, "request_id": "req-1", "retryable": False} | extra
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response(body, status=status, headers=headers)


def program_calls(steps: Sequence[object]) -> list[ProgramInstruction]:
    return [step for step in steps if isinstance(step, ProgramInstruction)]
