"""A node without containers: it speaks the real control channel and signs with a real key, as a test tells it to."""

import asyncio
import base64
import itertools
import json

import base58
from aiohttp import ClientSession
from nacl.signing import SigningKey
from solders.keypair import Keypair
from solders.message import to_bytes_versioned
from solders.transaction import VersionedTransaction

from marketplace.domain.allocations import AttemptPhase
from marketplace.domain.catalogue import class_bytes
from marketplace.domain.money import amount_due
from marketplace.domain.quantities import Millis, Tokens
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.control import SUBPROTOCOL, ClaimRequest, SignedVoucher
from marketplace.protocol.sealing import unseal
from marketplace.protocol.terms import SPEC_VERSION, JobSpec, canonical_json
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from tests.api.conftest import Renter, Wallet

HARDWARE = {"vcpu": 4, "ram_bytes": 8 << 30, "disk_bytes": 100 << 30, "gpus": []}
CAPABILITIES = {"runtime": "fake", "egress": True, "disk_limit": True, "max_disk_gb": 50}


class ScriptedNode(Wallet):
    """One registered node with one held connection."""

    def __init__(self, operator: Renter, seed: bytes | None = None) -> None:
        super().__init__(seed)
        self.operator = operator
        self.keypair = Keypair.from_seed(bytes(self.key))
        self.id = ""
        self.constants: dict = {}
        self.images: tuple[str, ...] = ()
        self.hardware = HARDWARE
        self.spec_version: int | None = SPEC_VERSION
        """What it says that it can read; None says nothing, as nodes of before that was told."""
        self.requests: asyncio.Queue[tuple[str, ClaimRequest]] = asyncio.Queue()
        self.commands: list[dict] = []
        self.execs: asyncio.Queue[tuple[str, dict]] = asyncio.Queue()
        self._numbers = itertools.count(1)
        self._answers: dict[str, asyncio.Future] = {}
        self._socket = None
        self._reader = None
        self._session = None

    async def register(self, floor="0.00002", region="eu", **more):
        body = {
            "node_key": self.address, "region": region, "price_floor_per_gpu_second": floor, "hardware": HARDWARE,
            "class": "cpu-small", **more,
        }  # fmt: skip
        body["node_signature"] = base58.b58encode(self.key.sign(canonical_json(body)).signature).decode()
        headers = {"Idempotency-Key": f"register-{self.address}"}
        async with asyncio.timeout(60):
            while True:
                status, answer, _ = await self.operator("POST", "/v1/nodes/register", json=body, headers=headers)
                if status == 201:
                    self.id = answer["id"]
                    return answer
                assert (status, answer["error"]) == (402, "signature_required"), answer
                unsigned = VersionedTransaction.from_bytes(base64.b64decode(answer["transaction"]))
                keys = {k.pubkey(): k for k in (self.operator.keypair, self.keypair)}
                message = to_bytes_versioned(unsigned.message)
                signers = unsigned.message.account_keys[: unsigned.message.header.num_required_signatures]
                signed = VersionedTransaction.populate(
                    unsigned.message, [keys[k].sign_message(message) for k in signers]
                )
                await self.operator(
                    "POST", "/v1/transactions", json={"transaction": base64.b64encode(bytes(signed)).decode()}
                )
                await asyncio.sleep(0.1)

    async def connect(self, call, holding=()):
        token = (await call.login(self, "node"))["token"]
        _, constants, _ = await call("GET", "/v1/constants")
        self.constants = constants["chain"]
        self._session = ClientSession()
        self._socket = await self._session.ws_connect(
            f"{call.base}/v1/nodes/{self.id}/control",
            headers={"Authorization": f"Bearer {token}"},
            protocols=(SUBPROTOCOL,),
        )
        self._reader = asyncio.create_task(self._read())
        hello = {
            "version": "test", "hardware": self.hardware, "capabilities": CAPABILITIES, "slots": 2, "free_slots": 2,
            "holding": list(holding), "images": list(self.images),
        }  # fmt: skip
        if self.spec_version is not None:
            hello["spec_version"] = self.spec_version
        return await self.ask("hello", hello)

    async def close(self):
        if self._socket is not None:
            await self._socket.close()
            await self._session.close()
            self._reader.cancel()

    async def ask(self, kind, body, *, re=None):
        """The answer's frame."""
        frame_id = f"n{next(self._numbers)}"
        self._answers[frame_id] = asyncio.get_running_loop().create_future()
        await self._send(kind, body, frame_id, re)
        async with asyncio.timeout(60):
            return await self._answers[frame_id]

    async def _send(self, kind, body, frame_id, re):
        frame = {"type": kind, "id": frame_id, "body": body}
        if re is not None:
            frame["re"] = re
        await self._socket.send_str(json.dumps(frame))

    async def _read(self):
        async for message in self._socket:
            frame = json.loads(message.data)
            if frame.get("re") in self._answers:
                self._answers.pop(frame["re"]).set_result(frame)
            elif frame["type"] == "claim_request":
                await self.requests.put((frame["id"], ClaimRequest.model_validate(frame["body"])))
            elif frame["type"] == "command":
                self.commands.append(frame["body"])
                await self._send("ack", {}, f"n{next(self._numbers)}", frame["id"])
            elif frame["type"].startswith("exec"):
                await self.execs.put((frame["type"], frame["body"]))
                await self._send("ack", {}, f"n{next(self._numbers)}", frame["id"])

    async def next_request(self):
        async with asyncio.timeout(60):
            return await self.requests.get()

    async def claim(self, request_id, request):
        """Consent; the attempt to report about."""
        message = ClaimMessage(
            program_id=base58.b58decode(self.constants["program_id"]),
            genesis_hash=base58.b58decode(self.constants["genesis_hash"]),
            escrow=request.escrow, attempt=request.attempt, market=request.market, node=request.node,
            class_id=class_bytes(request.class_id), price_per_hour=request.price_per_hour,
            remaining_max_ms=request.max_ms, remaining_deposit=request.deposit, terms_hash=request.terms_hash,
            fee_bps=request.fee_bps, at_ms=request.chain_time_ms,
        )  # fmt: skip
        body = {
            "allocation_id": request.allocation_id, "attempt": request.attempt, "at_ms": request.chain_time_ms,
            "signature": base64.b64encode(self.key.sign(message.signing_bytes()).signature).decode(),
        }  # fmt: skip
        answer = await self.ask("claim", body, re=request_id)
        assert answer["type"] == "ack", answer
        return ScriptedAttempt(self, request, answer["body"]["lease_token"])

    async def take(self):
        """Claim the next request."""
        return await self.claim(*(await self.next_request()))


class ScriptedAttempt:
    """An attempt that a scripted node holds."""

    def __init__(self, node: ScriptedNode, request: ClaimRequest, lease: str) -> None:
        self.node, self.request, self.lease = node, request, lease
        self.spec = JobSpec.model_validate_json(unseal(bytes(node.key), request.sealed_spec))
        self.sequence = 0
        self.reports = 0
        self.started = 0

    @property
    def name(self):
        return {"allocation_id": self.request.allocation_id, "attempt": self.request.attempt}

    async def report(self, state, **more):
        self.reports += 1
        body = {**self.name, "lease_token": self.lease, "sequence": self.reports, "state": state, **more}
        return await self.node.ask("state", body)

    async def ready(self, market):
        """The work runs from now on. No node starts it before it saw its assignment on chain: the program takes no
        start that is much older.
        """
        live, name = market.jobs.live, self.request.allocation_id

        def over(_allocation):
            latest = live.attempt(name)
            return latest is None or latest.phase is not AttemptPhase.CLAIMED

        if live.find(name) is not None:
            assert await live.wait_for(name, over, 60_000) is not None, "not assigned"
        self.started = market.jobs.chain.now()
        answer = await self.report("ready", started_at_ms=self.started)
        assert answer["type"] == "ack", answer

    def voucher(self, billed, *, at=None, state=VoucherState.RUNNING, reason=0, key: SigningKey | None = None):
        self.sequence += 1
        chain = self.node.constants
        request = self.request
        message = VoucherMessage(
            base58.b58decode(chain["program_id"]), base58.b58decode(chain["genesis_hash"]), request.escrow,
            request.attempt, request.wallet, request.node, self.sequence, self.started, at or self.started + billed,
            billed, amount_due(Tokens(request.price_per_hour), Millis(billed)), state, reason, bytes(32),
        )  # fmt: skip
        signature = (key or self.node.key).sign(message.signing_bytes()).signature
        return SignedVoucher(fields=message.fields(), signature=signature).model_dump(mode="json")

    async def beat(self, voucher):
        allocation = {**self.name, "lease_token": self.lease, "state": "running", "voucher": voucher}
        answer = await self.node.ask("heartbeat", {"sequence": 1, "free_slots": 1, "allocations": [allocation]})
        assert answer["type"] == "ack", answer
        return answer["body"]

    async def log(self, *lines):
        rows = [{"seq": n, "at_ms": 1, "stream": 1, "text": text} for n, text in enumerate(lines, 1)]
        return await self.node.ask("logs", {**self.name, "lease_token": self.lease, "lines": rows})
