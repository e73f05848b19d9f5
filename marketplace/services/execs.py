"""Commands beside a running job, through its node's held connection.

Nothing of it is stored, metered or counted as the job's end: a session lives as long as its client, its node's
connection and the job's container do. Every piece is acknowledged when it was passed on, so that whoever reads slowly
slows down whoever writes, and at most one piece of each direction waits here.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from marketplace.domain.allocations import Allocation, AttemptPhase
from marketplace.domain.ids import AllocationId, NodeId
from marketplace.errors import Conflict, NotFound, QuotaExceeded
from marketplace.protocol.control import ErrorBody, ExecControl, ExecData, ExecEnd, ExecOpen, Message
from marketplace.services.clock import Ids
from marketplace.services.live import Live
from marketplace.services.node_registry import NodeLink, NodeRegistry

MAX_PER_JOB: Final = 4
MAX_PER_NODE: Final = 8
"""Chosen: a node serves so many at once, whatever the market asks."""


@dataclass(slots=True)
class ExecSession:
    """One command. `received`: what came out of it, then its end; one piece at a time."""

    id: str
    allocation_id: AllocationId
    node_id: NodeId
    link: NodeLink
    received: asyncio.Queue[ExecData | ExecEnd] = field(default_factory=lambda: asyncio.Queue(maxsize=1))
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self) -> ExecData | ExecEnd | None:
        """The next piece; None when the node has gone away."""
        getting, gone = asyncio.ensure_future(self.received.get()), asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({getting, gone}, return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()
            gone.cancel()

    async def write(self, data: bytes, *, end: bool = False) -> bool:
        """Pass input on; False when the node no longer takes it."""
        return await self.link.exec(ExecData(exec_id=self.id, stream=0, data=data, end=end)) is None

    async def resize(self, rows: int, cols: int) -> None:
        """The terminal has another size."""
        await self.link.exec(ExecControl(exec_id=self.id, rows=rows, cols=cols))


class ExecService:
    """Opens sessions, and takes what their nodes send."""

    def __init__(self, live: Live, registry: NodeRegistry, ids: Ids) -> None:
        self._live = live
        self._registry = registry
        self._ids = ids
        self._sessions: dict[str, ExecSession] = {}

    def check(self, allocation: Allocation) -> tuple[NodeLink, NodeId, int]:
        """Where its container runs. Raises Conflict when it doesn't, or can't be reached or entered."""
        attempt = self._live.attempt(allocation.id)
        if attempt is None or attempt.phase is not AttemptPhase.READY or attempt.held or allocation.cancelling:
            raise Conflict(
                "a command runs beside a running job only",
                extra={"state": allocation.status.value, "allowed_from": ["running"]},
            )
        presence = self._registry.find(attempt.node_id)
        if presence is None or presence.link is None:
            raise Conflict("its node is not connected at the moment; try again", extra={"state": "running"})
        if not presence.exec:
            raise Conflict("its node's runtime can't run a command beside a job", extra={"state": "running"})
        return presence.link, attempt.node_id, attempt.number

    async def open(
        self, allocation: Allocation, cmd: tuple[str, ...], *, tty: bool, rows: int, cols: int
    ) -> ExecSession:
        """Start a command. Raises Conflict, QuotaExceeded."""
        link, node_id, number = self.check(allocation)
        for most, mine in (
            (MAX_PER_JOB, [s for s in self._sessions.values() if s.allocation_id == allocation.id]),
            (MAX_PER_NODE, [s for s in self._sessions.values() if s.node_id == node_id]),
        ):
            if len(mine) >= most:
                raise QuotaExceeded(f"at most {most} commands at once", extra={"quota": "exec", "limit": most})
        session = ExecSession(self._ids.new("exec"), allocation.id, node_id, link)
        self._sessions[session.id] = session
        refused = await link.exec(
            ExecOpen(
                exec_id=session.id, allocation_id=allocation.id, attempt=number, cmd=cmd, tty=tty, rows=rows, cols=cols
            )
        )
        if refused is not None:
            self._sessions.pop(session.id, None)
            raise Conflict(f"the command was not started: {refused.message}", extra={"state": "running"})
        return session

    async def close(self, session: ExecSession) -> None:
        """Nobody listens any more: its command loses its input and output."""
        self._sessions.pop(session.id, None)
        session.gone.set()
        await session.link.exec(ExecControl(exec_id=session.id, close=True))

    async def take(self, node_id: NodeId, piece: ExecData | ExecEnd) -> Message:
        """A piece from a node; returns when the one before was taken. Raises NotFound when nobody listens."""
        session = self._sessions.get(piece.exec_id)
        if session is None or session.node_id != node_id:
            raise NotFound
        putting, gone = asyncio.ensure_future(session.received.put(piece)), asyncio.ensure_future(session.gone.wait())
        try:
            await asyncio.wait({putting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not putting.done():
                raise NotFound
            if isinstance(piece, ExecEnd):
                # Nothing follows it, whoever is slow to take it.
                self._sessions.pop(session.id, None)
        finally:
            putting.cancel()
            gone.cancel()
        return Message()

    def disconnected(self, link: NodeLink) -> None:
        """A node's connection ended, and with it its sessions."""
        for session in list(self._sessions.values()):
            if session.link is link:
                self._sessions.pop(session.id, None)
                session.gone.set()


UNREACHABLE: Final = ErrorBody(code="not_ready", message="the node did not answer")
