"""A market on loopback that speaks the real protocol, and misbehaves where a test asks it to.

It checks what a real meter checks (signatures, order, clock) and keeps everything it was sent.
"""

import asyncio
import contextlib
import hashlib
import itertools
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import base58
from aiohttp import web

from marketplace.domain.catalogue import class_bytes
from marketplace.domain.money import amount_due
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol import sealing, signatures
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.control import (
    SUBPROTOCOL,
    AttemptState,
    Claim,
    ClaimAck,
    ClaimRequest,
    Command,
    CommandType,
    Countersignature,
    ErrorBody,
    ExecData,
    ExecEnd,
    Frame,
    FrameType,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Holding,
    LogLine,
    Logs,
    LogsAck,
    Message,
    Refusal,
    Refuse,
    SignedVoucher,
    StateAck,
    StateReport,
    Welcome,
)
from marketplace.protocol.siws import SignInInput
from marketplace.protocol.terms import JobSpec, terms_hash
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from node.keys import KeyPair, generate
from node.metering import Identity
from scripts.processes import free_ports

NODE_ID = "node_1111111111111111111111"
LEASE = "lease-1"


SKEW_MS = 2_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def spec(image: str = "busy", **changes: Any) -> JobSpec:
    values: dict[str, Any] = {"image": image, "class_id": "cpu-small", "limit_ms": 3_600_000, "disk_gb": 1}
    return JobSpec(**(values | changes))


def _described(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@dataclass
class Seen:
    """Everything the market knows of one attempt."""

    request: ClaimRequest
    claim: Claim | None = None
    reports: list[StateReport] = field(default_factory=list)
    lines: dict[int, LogLine] = field(default_factory=dict)
    vouchers: list[VoucherMessage] = field(default_factory=list)
    countersigned: list[VoucherMessage] = field(default_factory=list)
    ready_at_ms: int | None = None
    shown_ms: int | None = None
    """Billed before the end was heard of: a beat may come between the end and the daemon's knowledge of it."""
    refusals: int = 0

    @property
    def exited(self) -> StateReport | None:
        return next((r for r in self.reports if r.state is AttemptState.EXITED), None)

    @property
    def final(self) -> VoucherMessage | None:
        return next((v for v in self.countersigned if v.state is not VoucherState.RUNNING), None)

    @property
    def text(self) -> list[str]:
        return [self.lines[seq].text for seq in sorted(self.lines)]


class ScriptedMarket:
    """One market, one node. The knobs may be turned at any time."""

    def __init__(self, node_key: KeyPair, identity: Identity, *, heartbeat_ms: int = 100) -> None:
        self.node_key = node_key
        self.identity = identity
        self.meter = generate()
        self.heartbeat_ms = heartbeat_ms
        self.max_unacked_ms = 60_000
        self.start_limit_ms = 30_000
        self.pause_ms = 0
        self.execs: list[ExecData | ExecEnd] = []
        self.errors: list[ErrorBody] = []
        self.program_id = base58.b58encode(identity.program_id).decode()
        self.drop_answers: Counter[FrameType] = Counter()
        """How many frames of a type are taken but not answered."""
        self.silent = False
        """Reads, answers nothing."""
        self.refuse_vouchers = 0
        self.unseen_ms = 10_000
        """How much more than the time since it heard of the start it countersigns: that report may stand still a while."""
        self.chain_lag_ms = 0
        """By how much the chain's clock is behind ours; a voucher of more than its time and SKEW_MS is refused."""
        self.waits_for_chain = True
        """Whether a last voucher that is ahead of the chain may be reported again, or is refused at once."""
        self.claim_error: str | None = None
        self.settles = True
        self.assigns = True
        self.forget: tuple[Holding, ...] = ()
        self.attempts: dict[tuple[str, int], Seen] = {}
        self.hellos: list[Hello] = []
        self.beats: list[Heartbeat] = []
        self.refusals: list[Refuse] = []
        self.frames: Counter[FrameType] = Counter()
        self.logins = 0
        self.changed = asyncio.Condition()
        self._nonces: dict[str, str] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self._ids = itertools.count(1)
        self._runner: web.AppRunner | None = None
        # stopped and started again on it: none that the kernel could give to a connection meanwhile
        (self._port,) = free_ports(1, in_a_row=1)
        self.answered: set[str] = set()
        """Frames of ours that the node has answered."""
        self.posts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.input: bytes | None = None
        """What an attempt may fetch; None is not there."""
        self.input_faults = 0
        """How many answers break off half-way."""
        self.outputs: dict[str, bytes] = {}
        self.puts: Counter[str] = Counter()
        self.put_faults: list[int] = []
        self.checkpoints: list[bytes] = []
        self.checkpoint_faults: list[int] = []
        self.checkpoint_pace: tuple[int, float] | None = None
        """How a checkpoint is sent: so many bytes, then so many seconds of nothing; None in one piece."""
        self.checkpoint_goes_on = asyncio.Event()
        """Set, unless a test holds the second half of a checkpoint back."""
        self.checkpoint_goes_on.set()
        self.artifacts: dict[str, bytes] = {}
        self.artifact_reads: Counter[str] = Counter()
        self.hand_overs: list[str] = []
        """What is answered to those, the last again and again; `delivered` where there is none."""
        """Statuses that the next uploads are answered with; 0 breaks off, -1 waits for ever."""

    # --- process -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/auth/challenge", self._challenge)
        app.router.add_post("/v1/auth/verify", self._verify)
        app.router.add_get("/v1/constants", self._constants)
        app.router.add_get(f"/v1/nodes/{NODE_ID}/control", self._control)
        app.router.add_post(f"/v1/nodes/{NODE_ID}/drain", self._drain)
        place = f"/v1/nodes/{NODE_ID}/allocations/{{aid}}"
        app.router.add_get(f"{place}/input", self._input)
        app.router.add_get(f"{place}/outputs", self._held)
        app.router.add_put(f"{place}/outputs/{{path:.+}}", self._take_output)
        app.router.add_post(f"{place}/outputs", self._hand_over)
        app.router.add_get(f"{place}/artifacts", self._list_artifacts)
        app.router.add_get(f"{place}/artifacts/{{path:.+}}", self._artifact)
        app.router.add_get(f"{place}/checkpoint", self._checkpoint)
        app.router.add_put(f"{place}/checkpoint", self._take_checkpoint)
        app.router.add_get("/elsewhere/{name}", self._elsewhere)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()

    async def stop(self) -> None:
        await self.disconnect()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def disconnect(self) -> None:
        for socket in list(self._sockets):
            await socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    async def until_alone(self) -> None:
        """Until it knows that nobody is connected: what is pushed before that may go to the dead."""
        await self.until(lambda: not self._sockets)

    async def until(self, predicate: Any, timeout_s: float = 30.0) -> None:
        """Until something the node sent makes the predicate true."""
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(predicate)

    # --- what a test does ----------------------------------------------------------------------------------------

    def request(self, job: JobSpec, *, allocation: str = "alloc_1", attempt: int = 1, **changes: Any) -> ClaimRequest:
        values: dict[str, Any] = {
            "allocation_id": allocation,
            "attempt": attempt,
            "escrow": b"\x11" * 32,
            "wallet": b"\x12" * 32,
            "market": self.identity.market,
            "node": self.identity.node,
            "class_id": job.class_id,
            "price_per_hour": 3_600_000,
            "max_ms": job.limit_ms,
            "deposit": 3_600_000_000,
            "terms_hash": terms_hash(job.spec_hash(), "key"),
            "fee_bps": 500,
            "chain_time_ms": now_ms(),
            "sealed_spec": sealing.seal(self.node_key.public, job.model_dump_json().encode()),
            "answer_by_ms": 5000,
        }
        return ClaimRequest(**(values | changes))

    async def offer(self, job: JobSpec, **changes: Any) -> Seen:
        """Send a claim request; the rest follows from what the node answers."""
        await self.until(lambda: self._sockets, timeout_s=60)  # a daemon may only just be starting
        request = self.request(job, **changes)  # with the chain's time as it is now
        seen = self.attempts.setdefault((request.allocation_id, request.attempt), Seen(request))
        await self.push(FrameType.CLAIM_REQUEST, request)
        return seen

    async def command(self, kind: CommandType, seen: Seen | None = None, **changes: Any) -> str:
        values: dict[str, Any] = {"id": f"cmd-{next(self._ids)}", "type": kind}
        if seen is not None:
            values |= {"allocation_id": seen.request.allocation_id, "attempt": seen.request.attempt}
        command = Command(**(values | changes))
        await self.push(FrameType.COMMAND, command)
        return command.id

    async def push(self, kind: FrameType, body: Message, re: str | None = None) -> None:
        for socket in list(self._sockets):
            await self._send(socket, kind, body, re)

    async def ask(self, kind: FrameType, body: Message) -> None:
        """Push to the one node there is; returns when it has answered that very frame."""
        (socket,) = (each for each in self._sockets if not each.closed)
        asked = await self._send(socket, kind, body, None)
        await self.until(lambda: asked in self.answered)

    # --- HTTP ----------------------------------------------------------------------------------------------------

    async def _challenge(self, request: web.Request) -> web.Response:
        wallet = request.query["wallet"]
        nonce = f"nonce{next(self._ids):020d}"
        fields = SignInInput(
            domain=request.host,
            address=wallet,
            statement="Sign in as a node.",
            uri=self.url,
            chain_id="localnet",
            nonce=nonce,
            issued_at="2026-01-01T00:00:00Z",
            expiration_time="2026-01-01T00:05:00Z",
        )
        self._nonces[nonce] = fields.message()
        return web.json_response(
            {"wallet": wallet, "message": fields.message(), "nonce": nonce, "input": fields.as_input()}
        )

    async def _verify(self, request: web.Request) -> web.Response:
        body = await request.json()
        message = self._nonces.pop(body["nonce"], None)
        key = base58.b58decode(body["wallet"])
        if message is None or not signatures.verify(key, message.encode(), base58.b58decode(body["signature"])):
            return web.json_response({"error": "invalid_signature", "message": "no", "status": 401}, status=401)
        self.logins += 1
        return web.json_response({"token": "token", "expiresIn": 3600})

    async def _input(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["X-Lease-Token"] == LEASE
        if self.input is None:
            return web.json_response({"error": "gone", "message": "it was kept for 30 days", "status": 410}, status=410)
        digest = hashlib.sha256(self.input).hexdigest()
        headers = {"ETag": f'"{digest}"', "Content-Disposition": "attachment; filename*=UTF-8''given%20data.bin"}
        if self.input_faults:
            self.input_faults -= 1
            response = web.StreamResponse(headers=headers | {"Content-Length": str(len(self.input))})
            await response.prepare(request)
            await response.write(self.input[: len(self.input) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=self.input, headers=headers)

    async def _elsewhere(self, request: web.Request) -> web.Response:
        if self.input is None:
            return web.Response(status=404)
        if request.match_info["name"] == "loop":
            raise web.HTTPFound(str(request.rel_url))
        if request.match_info["name"] == "slow":
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                for byte in self.input * 1_000:
                    await response.write(bytes([byte]))
                    await asyncio.sleep(0.1)
            return response
        return web.Response(body=self.input)

    async def _held(self, request: web.Request) -> web.Response:
        assert request.headers["X-Lease-Token"] == LEASE
        return web.json_response({"outputs": [_described(path, data) for path, data in self.outputs.items()]})

    async def _take_output(self, request: web.Request) -> web.Response:
        assert request.headers["X-Lease-Token"] == LEASE
        path = request.match_info["path"]
        self.puts[path] += 1
        async with self.changed:
            self.changed.notify_all()
        fault = self.put_faults.pop(0) if self.put_faults else 200
        if fault == -1:
            await asyncio.Event().wait()
        if fault == 0:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if fault != 200:
            codes = {409: "lease_lost", 413: "payload_too_large", 422: "validation_error", 503: "store_unavailable"}
            return web.json_response({"error": codes[fault], "message": "no", "status": fault}, status=fault)
        self.outputs[path] = await request.read()
        return web.json_response(_described(path, self.outputs[path]))

    async def _hand_over(self, request: web.Request) -> web.Response:
        assert request.headers["X-Lease-Token"] == LEASE
        self.posts["outputs"].append(dict(self.outputs))
        state = "delivered"
        if self.hand_overs:
            state = self.hand_overs.pop(0) if len(self.hand_overs) > 1 else self.hand_overs[0]
        if state in {"lease_lost", "not_ready"}:
            return web.json_response({"error": state, "message": "no", "status": 409}, status=409)
        return web.json_response({"state": state, "detail": "the bucket is gone" if state == "failed" else None})

    async def _list_artifacts(self, request: web.Request) -> web.Response:
        assert request.headers["X-Lease-Token"] == LEASE
        return web.json_response({"outputs": [_described(path, data) for path, data in self.artifacts.items()]})

    async def _artifact(self, request: web.Request) -> web.Response:
        assert request.headers["X-Lease-Token"] == LEASE
        self.artifact_reads[request.match_info["path"]] += 1
        return web.Response(body=self.artifacts[request.match_info["path"]])

    async def _checkpoint(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["X-Lease-Token"] == LEASE
        if not self.checkpoints:
            return web.json_response({"error": "not_found", "message": "none", "status": 404}, status=404)
        data = self.checkpoints[-1]
        digest = hashlib.sha256(data).hexdigest()
        if self.checkpoint_pace is None and self.checkpoint_goes_on.is_set():
            return web.Response(body=data, headers={"ETag": f'"{digest}"'})
        size, pause_s = self.checkpoint_pace or (len(data) // 2 + 1, 0)
        response = web.StreamResponse(headers={"ETag": f'"{digest}"'})
        await response.prepare(request)
        for start in range(0, len(data), size):
            await response.write(data[start : start + size])
            await asyncio.sleep(pause_s)
            await self.checkpoint_goes_on.wait()
        return response

    async def _take_checkpoint(self, request: web.Request) -> web.Response:
        assert request.headers["X-Lease-Token"] == LEASE
        data = await request.read()
        fault = self.checkpoint_faults.pop(0) if self.checkpoint_faults else 200
        if fault != 200:
            codes = {413: "payload_too_large", 503: "store_unavailable"}
            return web.json_response({"error": codes[fault], "message": "no", "status": fault}, status=fault)
        self.checkpoints.append(data)
        async with self.changed:
            self.changed.notify_all()
        return web.json_response({"size": len(data), "sha256": hashlib.sha256(data).hexdigest()})

    async def _constants(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "chain": {
                    "market": base58.b58encode(self.identity.market).decode(),
                    "program_id": self.program_id,
                    "genesis_hash": base58.b58encode(self.identity.genesis_hash).decode(),
                    "decimals": 6,
                }
            }
        )

    async def _drain(self, request: web.Request) -> web.Response:
        self.posts["drain"].append(await request.json())
        return web.json_response({"id": NODE_ID})

    # --- the control channel -------------------------------------------------------------------------------------

    async def _control(self, request: web.Request) -> web.WebSocketResponse:
        if request.headers.get("Authorization") != "Bearer token":
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,))
        await socket.prepare(request)
        try:
            async for message in socket:
                frame = Frame.model_validate_json(message.data)
                self.frames[frame.type] += 1
                await self._take(socket, frame)
                async with self.changed:
                    self.changed.notify_all()
        finally:
            self._sockets.discard(socket)
            async with self.changed:
                self.changed.notify_all()
        return socket

    async def _take(self, socket: web.WebSocketResponse, frame: Frame) -> None:
        if self.silent or socket.closed:  # what can't be answered any more was never taken
            return
        if self.drop_answers[frame.type] > 0:
            self.drop_answers[frame.type] -= 1
            return
        match frame.type:
            case FrameType.HELLO:
                await self._send(socket, FrameType.HELLO, self._welcome(), frame.id)
                self._sockets.add(socket)
                self.hellos.append(Hello.model_validate(frame.body))  # who has seen it may push
            case FrameType.HEARTBEAT:
                await self._heartbeat(socket, frame)
            case FrameType.CLAIM:
                await self._claimed(socket, frame)
            case FrameType.REFUSE:
                self.refusals.append(Refuse.model_validate(frame.body))
            case FrameType.STATE:
                await self._state(socket, frame)
            case FrameType.EXEC_DATA:
                self.execs.append(ExecData.model_validate(frame.body))
                await self._send(socket, FrameType.ACK, Message(), frame.id)
            case FrameType.EXEC_END:
                self.execs.append(ExecEnd.model_validate(frame.body))
                await self._send(socket, FrameType.ACK, Message(), frame.id)
            case FrameType.ERROR:
                self.errors.append(ErrorBody.model_validate(frame.body))
                self.answered.add(frame.re or "")
            case FrameType.ACK:
                self.answered.add(frame.re or "")
            case FrameType.LOGS:
                await self._logs(socket, frame)
            case _:
                pass

    def chain_ms(self) -> int:
        return now_ms() - self.chain_lag_ms

    def _welcome(self) -> Welcome:
        return Welcome(
            server_time_ms=now_ms(),
            heartbeat_ms=self.heartbeat_ms,
            max_unacked_ms=self.max_unacked_ms,
            start_limit_ms=self.start_limit_ms,
            pause_ms=self.pause_ms,
            market=base58.b58encode(self.identity.market).decode(),
            meter_key=self.meter.address,
            program_id=self.program_id,
            genesis_hash=base58.b58encode(self.identity.genesis_hash).decode(),
            forget=self.forget,
        )

    async def _heartbeat(self, socket: web.WebSocketResponse, frame: Frame) -> None:
        beat = Heartbeat.model_validate(frame.body)
        self.beats.append(beat)
        countersigned, refused = [], []
        for each in beat.allocations:
            seen = self.attempts.get((each.allocation_id, each.attempt))
            if seen is None or each.voucher is None:
                continue
            signature = self._countersign(seen, each.voucher)
            message = VoucherMessage.from_fields(each.voucher.fields)
            names: dict[str, Any] = {
                "allocation_id": each.allocation_id,
                "attempt": each.attempt,
                "sequence": message.sequence,
            }
            if signature is None:
                refused.append(Refusal(**names, code="ahead" if self._ahead(message) else "clock"))
            else:
                countersigned.append(Countersignature(**names, signature=signature))
        ack = HeartbeatAck(
            server_time_ms=now_ms(),
            next_ms=self.heartbeat_ms,
            chain_time_ms=self.chain_ms(),
            countersigned=tuple(countersigned),
            refused=tuple(refused),
        )
        await self._send(socket, FrameType.ACK, ack, frame.id)

    async def _claimed(self, socket: web.WebSocketResponse, frame: Frame) -> None:
        claim = Claim.model_validate(frame.body)
        seen = self.attempts[claim.allocation_id, claim.attempt]
        request = seen.request
        message = ClaimMessage(
            program_id=self.identity.program_id,
            genesis_hash=self.identity.genesis_hash,
            escrow=request.escrow,
            attempt=request.attempt,
            market=self.identity.market,
            node=self.identity.node,
            class_id=class_bytes(request.class_id),
            price_per_hour=request.price_per_hour,
            remaining_max_ms=request.max_ms,
            remaining_deposit=request.deposit,
            terms_hash=request.terms_hash,
            fee_bps=request.fee_bps,
            at_ms=claim.at_ms,
        )
        assert signatures.verify(self.node_key.public, message.signing_bytes(), claim.signature)
        assert seen.claim in (None, claim), "a claim that is sent again is the same claim"
        seen.claim = claim
        if self.claim_error is not None:
            await self._send(socket, FrameType.ERROR, ErrorBody(code=self.claim_error, message="no"), frame.id)
            return
        await self._send(socket, FrameType.ACK, ClaimAck(lease_token=LEASE), frame.id)
        if self.assigns:
            await self.command(CommandType.ASSIGNED, seen)

    async def _state(self, socket: web.WebSocketResponse, frame: Frame) -> None:
        report = StateReport.model_validate(frame.body)
        seen = self.attempts[report.allocation_id, report.attempt]
        assert report.lease_token == LEASE
        if report.sequence not in [r.sequence for r in seen.reports]:
            assert report.sequence > max((r.sequence for r in seen.reports), default=0)
            seen.reports.append(report)
        if report.state is AttemptState.READY and seen.ready_at_ms is None:
            seen.ready_at_ms = now_ms()
        if report.state in (AttemptState.UPLOADING, AttemptState.EXITED) and seen.shown_ms is None:
            seen.shown_ms = max((v.billed_ms for v in seen.countersigned), default=0)
        countersignature = None
        if report.voucher is not None:
            signature = self._countersign(seen, report.voucher)
            message = VoucherMessage.from_fields(report.voucher.fields)
            if signature is None:
                code = "not_ready" if self.waits_for_chain and self._ahead(message) else "voucher_invalid"
                await self._send(socket, FrameType.ERROR, ErrorBody(code=code, message="no"), frame.id)
                return
            countersignature = Countersignature(
                allocation_id=report.allocation_id,
                attempt=report.attempt,
                sequence=message.sequence,
                signature=signature,
            )
        await self._send(socket, FrameType.ACK, StateAck(countersignature=countersignature), frame.id)
        if report.state is AttemptState.EXITED and self.settles:
            await self.command(CommandType.SETTLED, seen)

    async def _logs(self, socket: web.WebSocketResponse, frame: Frame) -> None:
        logs = Logs.model_validate(frame.body)
        seen = self.attempts[logs.allocation_id, logs.attempt]
        for line in logs.lines:
            known = seen.lines.setdefault(line.seq, line)
            assert known == line, "a line that is sent again is the same line"
        next_seq = next(n for n in itertools.count(1) if n not in seen.lines)
        await self._send(socket, FrameType.ACK, LogsAck(next_seq=next_seq), frame.id)

    def _ahead(self, voucher: VoucherMessage) -> bool:
        return voucher.at_ms > self.chain_ms() + SKEW_MS

    def _countersign(self, seen: Seen, signed: SignedVoucher) -> bytes | None:
        """The meter's signature, or None: it refuses, it never clips."""
        voucher = VoucherMessage.from_fields(signed.fields)
        assert signatures.verify(self.node_key.public, voucher.signing_bytes(), signed.signature)
        request = seen.request
        assert voucher.escrow == request.escrow
        assert voucher.amount == amount_due(Tokens(request.price_per_hour), Millis(voucher.billed_ms))
        assert voucher.billed_ms <= voucher.at_ms - voucher.started_at_ms
        if voucher not in seen.vouchers:
            seen.vouchers.append(voucher)
        if voucher in seen.countersigned:
            return self.meter.sign(voucher.signing_bytes())
        last = seen.countersigned[-1] if seen.countersigned else None
        if self.refuse_vouchers > 0:
            self.refuse_vouchers -= 1
            seen.refusals += 1
            return None
        if self._ahead(voucher):
            seen.refusals += 1
            return None
        if seen.ready_at_ms is None or voucher.billed_ms > max(0, now_ms() - seen.ready_at_ms) + self.unseen_ms:
            seen.refusals += 1
            return None
        if last is not None:
            assert voucher.sequence > last.sequence
            assert voucher.started_at_ms == last.started_at_ms
            assert voucher.at_ms >= last.at_ms
            assert 0 <= voucher.billed_ms - last.billed_ms <= voucher.at_ms - last.at_ms
        seen.countersigned.append(voucher)
        return self.meter.sign(voucher.signing_bytes())

    async def _send(self, socket: web.WebSocketResponse, kind: FrameType, body: Message, re: str | None) -> str:
        """The frame's id."""
        frame = Frame(type=kind, id=f"m-{next(self._ids)}", re=re, body=body.model_dump(mode="json"))
        if not socket.closed:
            await socket.send_str(frame.model_dump_json())
        return frame.id


def reason(seen: Seen) -> Reason:
    assert seen.exited is not None
    return Reason(seen.exited.reason)
