"""A node that holds no connection: the same life as a scripted node's, by POST alone."""

import asyncio

from marketplace.protocol.control import ClaimRequest
from marketplace.protocol.terms import SPEC_VERSION
from tests.api.scripted_node import CAPABILITIES, HARDWARE, ScriptedNode

HELLO = {
    "version": "test", "hardware": HARDWARE, "capabilities": CAPABILITIES, "slots": 2, "free_slots": 2,
    "spec_version": SPEC_VERSION,
}  # fmt: skip


class PollingNode(ScriptedNode):
    """Polls for work; commands come with the answers to its heartbeats."""

    async def connect(self, call, holding=()):
        self.call = call
        self.token = (await call.login(self, "node"))["token"]
        _, constants, _ = await call("GET", "/v1/constants")
        self.constants = constants["chain"]
        return await self.post("claim", {"hello": {**HELLO, "holding": list(holding)}})

    async def close(self):
        """Nothing is open."""

    async def post(self, path, body):
        return await self.call("POST", f"/v1/nodes/{self.id}/{path}", json=body, token=self.token)

    async def next_request(self):
        async with asyncio.timeout(60):
            while True:
                status, answer, _ = await self.post("claim", {"wait_ms": 2_000})
                if status == 200:
                    (request,) = answer["claim_requests"]
                    return None, ClaimRequest.model_validate(request)
                assert status == 204, answer

    async def ask(self, kind, body, *, re=None):
        del re
        report = kind in {"state", "logs"}
        status, answer, _ = await self.post(f"allocations/{body['allocation_id']}/{kind}" if report else kind, body)
        if status != 200:
            return {"type": "error", "body": {"code": answer["error"], "message": answer["message"]}}
        return {"type": "ack", "body": answer}
