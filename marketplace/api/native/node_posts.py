"""What a node without a held connection says by POST: the control channel's bodies. Source: api.md section 5.5."""

from typing import Annotated

from aiohttp import web
from pydantic import Field, StringConstraints, model_validator

from marketplace.api.fields import AllocationIdPath, NodeIdPath, RequestModel
from marketplace.api.routes import NODE, Call, RateClass, Route
from marketplace.domain.ids import NodeId
from marketplace.errors import (
    AlreadyAssigned,
    Conflict,
    Invalid,
    NotFound,
    NotReady,
    StaleLease,
    VoucherInvalid,
)
from marketplace.protocol.control import (
    Base64Bytes,
    Claim,
    Heartbeat,
    Hello,
    Logs,
    Message,
    Refuse,
    StateReport,
)
from marketplace.services.logs import JobLogs
from marketplace.services.node_control import NodeControl
from marketplace.services.polls import MAX_WAIT_MS, Polls

_ANSWER = ("attempt", "at_ms", "signature", "refuse")


class HeartbeatRequest(RequestModel, Heartbeat):
    """The body of the control channel's `heartbeat`."""


class StateRequest(RequestModel, StateReport):
    """The body of the control channel's `state`."""


class LogsRequest(RequestModel, Logs):
    """The body of the control channel's `logs`."""


class ClaimRequestBody(RequestModel):
    """A poll (`wait_ms`, `max`, and with the first one `hello`), or the answer to an offer: a claim or a refusal."""

    hello: Hello | None = None
    wait_ms: int = Field(default=0, ge=0, le=MAX_WAIT_MS)
    max: int = Field(default=1, ge=1, le=64)
    allocation_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    attempt: int | None = Field(default=None, ge=1)
    at_ms: int | None = None
    signature: Base64Bytes | None = None
    refuse: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _one_thing_at_a_time(self) -> "ClaimRequestBody":
        answering = [name for name in _ANSWER if getattr(self, name) is not None]
        if self.allocation_id is None:
            if answering:
                raise ValueError("an answer names its allocation_id")
            return self
        claims = self.refuse is None and self.at_ms is not None and self.signature is not None
        refuses = self.refuse is not None and self.at_ms is None and self.signature is None
        if self.attempt is None or not (claims or refuses):
            raise ValueError("an answer has attempt, and either at_ms with signature, or refuse")
        return self


def node_post_routes(control: NodeControl, polls: Polls, logs: JobLogs) -> list[Route]:
    """Heartbeats, polls, reports and logs."""

    async def heartbeat(call: Call, node_id: NodeIdPath, body: HeartbeatRequest) -> web.Response:
        del call
        return _answer(await polls.heartbeat(NodeId(node_id), body))

    async def claim(call: Call, node_id: NodeIdPath, body: ClaimRequestBody) -> web.Response:
        del call
        node = NodeId(node_id)
        if body.allocation_id is None:
            offers = await polls.poll(node, body.hello, body.max, body.wait_ms)
            if not offers:
                return web.Response(status=204)
            listed = ",".join(offer.model_dump_json() for offer in offers)
            return web.Response(text=f'{{"claim_requests":[{listed}]}}', content_type="application/json")
        attempt = body.attempt or 0
        if body.refuse is not None:
            polls.refuse(node, Refuse(allocation_id=body.allocation_id, attempt=attempt, code=body.refuse))
            return web.Response(status=204)
        answer = Claim(
            allocation_id=body.allocation_id,
            attempt=attempt,
            at_ms=body.at_ms or 0,
            signature=body.signature or b"",
        )
        return _answer(await polls.claim(node, answer))

    async def state(call: Call, node_id: NodeIdPath, aid: AllocationIdPath, body: StateRequest) -> web.Response:
        del call
        _same_allocation(aid, body.allocation_id)
        return _answer(await control.state(NodeId(node_id), body))

    async def take_logs(call: Call, node_id: NodeIdPath, aid: AllocationIdPath, body: LogsRequest) -> web.Response:
        del call
        _same_allocation(aid, body.allocation_id)
        return _answer(await logs.take(NodeId(node_id), body))

    return [
        Route(
            "POST", "/v1/nodes/{node_id}/heartbeat", heartbeat, "A heartbeat, for nodes without a held connection",
            NODE, rate=RateClass.UNCOUNTED, errors=(NotFound,),
        ),
        Route(
            "POST", "/v1/nodes/{node_id}/claim", claim, "Poll for attempts, and answer what is offered", NODE,
            errors=(Invalid, Conflict, AlreadyAssigned),
        ),
        Route(
            "POST", "/v1/nodes/{node_id}/allocations/{aid}/state", state, "A change of an attempt's state",
            NODE, errors=(Invalid, StaleLease, NotReady, VoucherInvalid),
        ),
        Route(
            "POST", "/v1/nodes/{node_id}/allocations/{aid}/logs", take_logs, "Log lines of an attempt",
            NODE, read_once=True, errors=(Invalid, StaleLease),
        ),
    ]  # fmt: skip


def _same_allocation(named: str, reported: str) -> None:
    if named != reported:
        raise Conflict("the path and the body name different allocations")


def _answer(answer: Message) -> web.Response:
    """The control channel's own message, as JSON."""
    return web.Response(text=answer.model_dump_json(), content_type="application/json")
