"""Nodes that poll instead of holding a connection: the queue behind their polls. Source: api.md section 5.5.

A polling node says hello with its first poll, is offered attempts in the answers to its polls, and gets commands
in the answers to its heartbeats. Everything else is the held connection's own service.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

from marketplace.domain.ids import NodeId
from marketplace.errors import AlreadyAssigned, Conflict
from marketplace.protocol.control import (
    Claim,
    ClaimAck,
    ClaimRequest,
    Command,
    ErrorBody,
    ExecControl,
    ExecData,
    ExecOpen,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Refuse,
)
from marketplace.services.claims import ANSWER_MS
from marketplace.services.clock import Clock
from marketplace.services.node_control import NodeControl

MAX_WAIT_MS: Final = 30_000
"""Specified: api.md section 5.5."""
QUIET_MS: Final = MAX_WAIT_MS + ANSWER_MS
"""A node that has not polled for so long is not offered anything: the renter would only wait for it."""
MAX_COMMANDS: Final = 256
"""Chosen: commands kept for one node until its next heartbeat; the scheduler repeats what is dropped."""


@dataclass(slots=True)
class _Offer:
    request: ClaimRequest
    answer: asyncio.Future[Claim | Refuse]
    lease: asyncio.Future[str | None]
    handed_out: bool = False


@dataclass(slots=True)
class PollLink:
    """A polling node as the scheduler sees it: a NodeLink."""

    clock: Clock
    polled_at_ms: int
    closed: bool = False
    waiting: int = 0
    _offers: dict[tuple[str, int], _Offer] = field(default_factory=dict)
    _commands: dict[str, Command] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def request_claim(self, request: ClaimRequest) -> Claim | Refuse | None:
        """Offer an attempt with the next poll and wait for the answer; None when there was none in time."""
        quiet = self.clock.monotonic_ms() - self.polled_at_ms > QUIET_MS
        if self.closed or (quiet and not self.waiting):
            return None
        loop = asyncio.get_running_loop()
        offer = _Offer(request, loop.create_future(), loop.create_future())
        key = (request.allocation_id, request.attempt)
        self._offers[key] = offer
        self._news.set()
        claimed = False
        answer: Claim | Refuse | None = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_MS / 1000):
                    answer = await offer.answer
            claimed = isinstance(answer, Claim)
        finally:
            if not claimed:
                self._forget(key)
        return answer

    async def answer_claim(self, claim: Claim, lease_token: str | None) -> None:
        """Give the lease to the request that carried the claim."""
        offer = self._offers.get((claim.allocation_id, claim.attempt))
        if offer is not None and not offer.lease.done():
            offer.lease.set_result(lease_token)

    async def exec(self, body: ExecOpen | ExecData | ExecControl) -> ErrorBody | None:  # noqa: ARG002 - the link's
        """Nothing goes to a node that only polls at once."""
        return ErrorBody(code="conflict", message="its node polls, and holds no connection")

    async def command(self, command: Command) -> bool:
        """Keep it for the next heartbeat's answer; not acknowledged until then."""
        if len(self._commands) < MAX_COMMANDS:
            self._commands[command.id] = command
        return False

    async def close(self, reason: str) -> None:
        """The node has connected otherwise."""
        del reason
        self.closed = True
        self._news.set()

    async def take_offers(self, most: int, wait_ms: int) -> list[ClaimRequest]:
        """Offers that no poll has been given yet; waits for the first one."""
        self.waiting += 1
        try:
            async with asyncio.timeout(wait_ms / 1000):
                while not self._open_offers():
                    if self.closed:
                        raise Conflict("this node has connected otherwise; stop polling or say hello again")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return []
        finally:
            self.waiting -= 1
            self.polled_at_ms = self.clock.monotonic_ms()
        taken = self._open_offers()[:most]
        for offer in taken:
            offer.handed_out = True
        return [offer.request for offer in taken]

    async def claim(self, claim: Claim) -> str | None:
        """The lease of an offer that is claimed in time, None when there is no such offer. Raises AlreadyAssigned."""
        key = (claim.allocation_id, claim.attempt)
        offer = self._offers.get(key)
        if offer is None or offer.answer.done():
            return None
        offer.answer.set_result(claim)
        try:
            async with asyncio.timeout(ANSWER_MS / 1000):
                lease = await offer.lease
        except TimeoutError:
            lease = None
        finally:
            self._forget(key)
        if lease is None:
            raise AlreadyAssigned
        return lease

    def refuse(self, refusal: Refuse) -> None:
        """The node does not take it; an offer that is gone needs no answer."""
        offer = self._offers.get((refusal.allocation_id, refusal.attempt))
        if offer is not None and not offer.answer.done():
            offer.answer.set_result(refusal)

    def take_commands(self) -> tuple[Command, ...]:
        """Commands since the last heartbeat."""
        commands = tuple(self._commands.values())
        self._commands.clear()
        return commands

    def _open_offers(self) -> list[_Offer]:
        return [offer for offer in self._offers.values() if not offer.handed_out]

    def _forget(self, key: tuple[str, int]) -> None:
        self._offers.pop(key, None)


class Polls:
    """Answers polling nodes."""

    def __init__(self, control: NodeControl, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._links: dict[NodeId, PollLink] = {}

    async def poll(self, node_id: NodeId, hello: Hello | None, most: int, wait_ms: int) -> list[ClaimRequest]:
        """Attempts offered to the node. Raises Conflict before it said hello, Starting."""
        if hello is not None:
            link = PollLink(self._clock, self._clock.monotonic_ms())
            await self._control.hello(node_id, link, hello)
            self._links[node_id] = link
        return await self._link(node_id).take_offers(most, wait_ms)

    async def claim(self, node_id: NodeId, claim: Claim) -> ClaimAck:
        """The lease of a claim, now or of one whose answer was lost. Raises AlreadyAssigned, Starting."""
        link = self._links.get(node_id)
        lease = await link.claim(claim) if link is not None else None
        return self._control.claim_again(node_id, claim) if lease is None else ClaimAck(lease_token=lease)

    def refuse(self, node_id: NodeId, refusal: Refuse) -> None:
        """The node does not take an offer."""
        link = self._links.get(node_id)
        if link is not None:
            link.refuse(refusal)

    async def heartbeat(self, node_id: NodeId, beat: Heartbeat) -> HeartbeatAck:
        """The heartbeat's answer, with the commands that a held connection would have carried."""
        answer = await self._control.heartbeat(node_id, beat)
        link = self._links.get(node_id)
        if link is None or link.closed:
            return answer
        return answer.model_copy(update={"commands": (*answer.commands, *link.take_commands())})

    def _link(self, node_id: NodeId) -> PollLink:
        link = self._links.get(node_id)
        if link is None or link.closed:
            raise Conflict("say hello with the first poll: field `hello`, as on the held connection")
        return link
