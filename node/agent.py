"""The daemon: one control channel, and one runner per attempt.

It takes what it consents to, keeps the heartbeat, adopts what ran before its own restart, watches for the
market's silence, and never leaves anything of its own behind on the machine.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import base58
import structlog

from marketplace.crash import crash_point
from marketplace.domain.catalogue import class_bytes
from marketplace.domain.reasons import Reason
from marketplace.domain.timing import PAUSE_LIMIT_MS
from marketplace.protocol.control import Capabilities as Announced
from marketplace.protocol.control import (
    ClaimRequest,
    Command,
    CommandType,
    ExecControl,
    ExecData,
    ExecOpen,
    FrameType,
    Hardware,
    Heartbeat,
    Hello,
    Holding,
    Message,
    Refuse,
    Welcome,
)
from marketplace.protocol.terms import SPEC_VERSION
from node.acceptance import ClaimRefused, Policy, RefuseCode, consent, examine, open_spec
from node.attempt.runner import AttemptRunner
from node.attempt.work import Terms, Tools
from node.chain import Chain, ChainRefused, ChainSilent, Standing, Windows
from node.clock import Anchor, ChainClock, Clock
from node.control import Connector, ControlChannel
from node.errors import MarketRefused, MarketUnavailable, NotTrusted
from node.execs import ExecRefused, Execs
from node.journal import Attempt, Journal, Step, Stop
from node.keys import KeyPair
from node.metering import Identity
from node.runtime.errors import EngineUnavailable
from node.runtime.port import AttemptKey, Capabilities, Runtime
from node.transfers import Transfers

# Specified: system.md section 5, step 8.
SILENT_INTERVALS: Final = 3
# Chosen: longer than any start-up of a container between its creation and its journal entry.
_SWEEP_EVERY_S: Final = 60.0
_SWEEP_AGE_S: Final = 120.0
_REFUSED_BEAT_S: Final = 1.0
# Chosen: a look costs one call; what is waited for is a settlement, or three times lost_after.
_DISOWNED_LOOK_S: Final = 1.0
_REMEMBERED_IMAGES: Final = 64

# Specified: system.md section 5; the market's own numbers replace them when it welcomes us.
_DEFAULT_INTERVAL_MS: Final = 15_000
_DEFAULT_UNACKED_MS: Final = 900_000

_log = structlog.get_logger("node.agent")


@dataclass(frozen=True, slots=True)
class Machine:
    """What this node is and offers.

    capabilities: as measured at the start. announce: how the market is told what the runtime can give by now
    (room on the disk comes and goes).
    """

    version: str
    hardware: Hardware
    capabilities: Capabilities
    announce: Callable[[Capabilities], Announced]


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers the node keeps to beside the market's."""

    windows: Windows
    max_image_bytes: int
    log_limit_bytes: int


class Agent:
    """The daemon's logic; `run` is its one task. It is the control channel's receiver."""

    def __init__(
        self,
        *,
        machine: Machine,
        policy: Policy,
        limits: Limits,
        identity: Identity,
        key: KeyPair,
        journal: Journal,
        runtime: Runtime,
        connector: Connector,
        clock: Clock,
        chain: Chain | None,
        drain_flag: Path,
        transfers: Transfers,
        channel: Callable[["Agent", Connector], ControlChannel] | None = None,
    ) -> None:
        self._machine = machine
        self._capabilities = machine.capabilities
        self._policy = policy
        self._limits = limits
        self._identity = identity
        self._key = key
        self._journal = journal
        self._runtime = runtime
        self._clock = clock
        self._chain_clock = ChainClock(clock)
        self._chain = chain
        self._drain_flag = drain_flag
        self._transfers = transfers
        self._channel = channel(self, connector) if channel else ControlChannel(connector, self)
        self._execs = Execs(runtime, self._channel)
        self._runners: dict[AttemptKey, AttemptRunner] = {}
        self._tasks: dict[AttemptKey, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._welcome: Welcome | None = None
        self._welcomed = asyncio.Event()
        self._sequence = 0
        self._images: dict[str, None] = {}
        self._heard_ms = clock.monotonic_ms()
        self._silent_since_ms: dict[AttemptKey, int] = {}
        self._leaving: dict[AttemptKey, asyncio.Task[None]] = {}

    @property
    def draining(self) -> bool:
        """Whether no new work is taken."""
        return self._drain_flag.exists()

    @property
    def free_slots(self) -> int:
        """Slots that no attempt holds."""
        return max(0, self._policy.slots - sum(runner.slots for runner in self._runners.values()))

    @property
    def busy(self) -> bool:
        """Whether anything of an attempt is still on this machine."""
        return any(runner.slots for runner in self._runners.values())

    async def run(self) -> None:
        """Until cancelled. Containers are left running for the next daemon."""
        self._adopt()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._channel.run())
                group.create_task(self._beat_for_ever())
                group.create_task(self._watch_silence())
                group.create_task(self._sweep_for_ever())
        finally:
            tasks = [*self._tasks.values(), *self._leaving.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Take no more work, and return when nothing is left on this machine."""
        self._drain_flag.touch()
        self._beat_now.set()
        while self.busy:
            self._changed.clear()
            await self._changed.wait()

    # --- the channel's receiver ----------------------------------------------------------------------------------

    async def hello(self) -> Hello:
        """Who we are and what we hold."""
        return Hello(
            version=self._machine.version,
            hardware=self._machine.hardware,
            capabilities=await self._capabilities_now(),
            slots=self._policy.slots,
            free_slots=self.free_slots,
            images=tuple(self._images),
            draining=self.draining,
            spec_version=SPEC_VERSION,
            holding=tuple(
                Holding(allocation_id=key.allocation, attempt=key.attempt, state=runner.state)
                for key, runner in self._runners.items()
            ),
        )

    async def on_welcome(self, welcome: Welcome) -> None:
        """Obey a market that is the pinned one. Raises NotTrusted for another."""
        pinned = _pins(self._identity)
        given = {name: getattr(welcome, name) for name in pinned}
        if given != pinned:
            wrong = ", ".join(f"{name} {given[name]}" for name in pinned if given[name] != pinned[name])
            raise NotTrusted(f"the market says it is another than the configured one: {wrong}")
        self._welcome = welcome
        self._welcomed.set()
        self._heard_ms = self._clock.monotonic_ms()
        self._silent_since_ms.clear()
        for holding in welcome.forget:
            runner = self._runners.get(AttemptKey(holding.allocation_id, holding.attempt))
            if runner is not None:
                self._leave(runner)

    async def on_claim_request(self, frame_id: str, request: ClaimRequest) -> None:
        """Consent, journalled before it is sent, or refuse with a reason."""
        try:
            runner = await self._consider(frame_id, request)
        except ClaimRefused as error:
            _log.info("claim refused", action="claim_refused", code=error.code, allocation=request.allocation_id)
            refusal = Refuse(allocation_id=request.allocation_id, attempt=request.attempt, code=error.code)
            await self._channel.send(FrameType.REFUSE, refusal, re=frame_id)
            return
        if runner is not None:
            self._drive(runner)

    async def on_command(self, command: Command) -> None:
        """Obey a command of the market."""
        match command.type:
            case CommandType.DRAIN:
                self._drain_flag.touch()
                self._beat_now.set()
            case CommandType.RESUME:
                self._drain_flag.unlink(missing_ok=True)
                self._beat_now.set()
            case _:
                if command.allocation_id is None or command.attempt is None:
                    return
                runner = self._runners.get(AttemptKey(command.allocation_id, command.attempt))
                if runner is not None:
                    runner.on_command(command)

    async def on_exec(self, body: Message) -> str | None:
        """Something of a command beside a job; why not, None when it is done."""
        try:
            match body:
                case ExecOpen():
                    runner = self._runners.get(AttemptKey(body.allocation_id, body.attempt))
                    if runner is None or runner.record.step is not Step.READY:
                        return "the job does not run here"
                    await self._execs.open(body)
                case ExecData():
                    await self._execs.take(body)
                case ExecControl():
                    await self._execs.control(body)
        except ExecRefused as error:
            return str(error)
        return None

    async def on_disconnect(self) -> None:
        """Commands beside jobs end with the connection; the jobs don't."""
        await self._execs.close()

    # --- attempts ------------------------------------------------------------------------------------------------

    async def _consider(self, frame_id: str, request: ClaimRequest) -> AttemptRunner | None:
        """A new attempt; None when it is one that we hold already. Raises ClaimRefused."""
        key = AttemptKey(request.allocation_id, request.attempt)
        welcome = self._welcome
        if welcome is None:
            raise ClaimRefused(RefuseCode.MARKET, "not welcomed yet")
        await self._check_clock(request.chain_time_ms)
        room_gb = (await self._capabilities_now()).max_disk_gb
        held = self._journal.find(key)
        if held is not None:
            # Asked again because our answer was lost: it is on its way again already, with the same signature.
            return None
        spec = examine(
            request,
            policy=replace(self._policy, max_disk_gb=room_gb),
            identity=self._identity,
            key=self._key,
            free_slots=self.free_slots,
            draining=self.draining,
        )
        anchor = Anchor.set(self._clock, request.chain_time_ms)
        claim = consent(request, self._identity, class_bytes(request.class_id), anchor.chain_ms)
        record = Attempt(
            request=request,
            request_frame=frame_id,
            claim_at_ms=claim.at_ms,
            claim_signature=self._key.sign(claim.signing_bytes()),
            anchor=anchor,
            start_limit_ms=welcome.start_limit_ms,
            meter_key=base58.b58decode(welcome.meter_key),
        )
        self._journal.save(record)
        crash_point("node.after_claim")
        self._images[spec.image] = None
        while len(self._images) > _REMEMBERED_IMAGES:
            self._images.pop(next(iter(self._images)))
        return AttemptRunner(record, spec, self._tools(), self._terms())

    async def _capabilities_now(self) -> Announced:
        """What the machine can give by now; while its engine is silent, what it gave before."""
        try:
            self._capabilities = await self._runtime.capabilities()
        except EngineUnavailable as error:
            _log.warning("engine silent", action="engine_silent", error=str(error))
        return self._machine.announce(self._capabilities)

    async def _check_clock(self, claimed_ms: int) -> None:
        """Our signatures carry the chain's time: the market's idea of it must be the chain's."""
        if self._chain is None:
            return
        try:
            chain_ms = await self._chain.time_ms()
        except (ChainSilent, ChainRefused):
            return
        # The chain counts whole seconds, and its last block may be that old.
        if abs(claimed_ms - chain_ms) > self._limits.windows.skew_ms + 1000:
            raise ClaimRefused(RefuseCode.CLOCK, f"chain time {chain_ms}, the market says {claimed_ms}")

    def _adopt(self) -> None:
        """Go on with everything the journal knows."""
        for record in self._journal.attempts():
            spec = open_spec(record.request, self._key)
            _log.info("adopted", action="adopted", allocation=record.key.allocation, step=record.step.name.lower())
            self._drive(AttemptRunner(record, spec, self._tools(), self._terms()))

    def _drive(self, runner: AttemptRunner) -> None:
        key = runner.record.key
        self._runners[key] = runner
        task = asyncio.create_task(runner.run())
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._over(key, done))

    def _over(self, key: AttemptKey, task: asyncio.Task[None]) -> None:
        self._changed.set()
        if task.cancelled():
            return
        self._runners.pop(key, None)
        self._tasks.pop(key, None)
        self._silent_since_ms.pop(key, None)
        self._beat_now.set()
        if (error := task.exception()) is not None:
            # The journal still has it: the next start of the daemon tries again, the market sees silence till then.
            _log.error("attempt failed", action="attempt_failed", allocation=key.allocation, exc_info=error)

    def _tools(self) -> Tools:
        return Tools(
            journal=self._journal,
            runtime=self._runtime,
            channel=self._channel,
            clock=self._clock,
            key=self._key,
            identity=self._identity,
            chain=self._chain,
            beat_soon=self._soon,
            chain_clock=self._chain_clock,
            pause_ms=self._pause_ms,
            transfers=self._transfers,
        )

    def _pause_ms(self) -> int:
        return self._welcome.pause_ms if self._welcome is not None else PAUSE_LIMIT_MS

    def _terms(self) -> Terms:
        return Terms(
            claim_limit_ms=self._limits.windows.claim_limit_ms,
            max_image_bytes=self._limits.max_image_bytes,
            log_limit_bytes=self._limits.log_limit_bytes,
        )

    def _soon(self) -> None:
        self._beat_now.set()
        self._changed.set()

    # --- heartbeat -----------------------------------------------------------------------------------------------

    async def _beat_for_ever(self) -> None:
        while True:
            await self._channel.wait_connected()
            welcome = await self._welcome_now()
            interval_ms = welcome.heartbeat_ms
            self._beat_now.clear()
            try:
                interval_ms = await self._beat(interval_ms)
            except MarketUnavailable as error:
                _log.warning("heartbeat unanswered", action="heartbeat_unanswered", error=str(error))
                await asyncio.sleep(min(interval_ms / 1000, _REFUSED_BEAT_S))
                continue
            except MarketRefused as error:
                _log.error("heartbeat refused", action="heartbeat_refused", error=str(error))
                await asyncio.sleep(_REFUSED_BEAT_S)
                continue
            try:
                async with asyncio.timeout(interval_ms / 1000):
                    await self._beat_now.wait()
            except TimeoutError:
                continue

    async def _beat(self, interval_ms: int) -> int:
        """One heartbeat; answers when the next is due, in milliseconds."""
        self._sequence += 1
        beats = (runner.beat() for runner in self._runners.values())
        ack = await self._channel.beat(
            Heartbeat(
                sequence=self._sequence,
                free_slots=0 if self.draining else self.free_slots,
                images=tuple(self._images),
                load=os.getloadavg()[0] / (os.cpu_count() or 1),
                draining=self.draining,
                allocations=tuple(beat for beat in beats if beat is not None),
            ),
            timeout_s=max(1.0, interval_ms / 1000),
        )
        self._heard_ms = self._clock.monotonic_ms()
        self._silent_since_ms.clear()
        if ack.chain_time_ms is not None:
            self._chain_clock.set(ack.chain_time_ms)
        for countersigned in ack.countersigned:
            runner = self._runners.get(AttemptKey(countersigned.allocation_id, countersigned.attempt))
            if runner is not None:
                runner.on_countersigned(countersigned)
        for refused in ack.refused:
            runner = self._runners.get(AttemptKey(refused.allocation_id, refused.attempt))
            if runner is not None:
                runner.on_refused(refused)
        for command in ack.commands:
            await self._channel.obey(command)
        return max(100, ack.next_ms)

    async def _welcome_now(self) -> Welcome:
        await self._welcomed.wait()
        if self._welcome is None:
            raise AssertionError("welcomed without a welcome")
        return self._welcome

    # --- silence of the market -----------------------------------------------------------------------------------

    async def _watch_silence(self) -> None:
        """What runs while the market is silent, and what is owed when it stays so."""
        while True:
            interval_ms = self._welcome.heartbeat_ms if self._welcome else _DEFAULT_INTERVAL_MS
            if self._welcome is None:
                # Until this daemon's first welcome the public interval counts, and not a moment longer.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(interval_ms / 1000):
                        await self._welcomed.wait()
            else:
                await asyncio.sleep(interval_ms / 1000)
            silent_ms = self._clock.monotonic_ms() - self._heard_ms
            if silent_ms <= SILENT_INTERVALS * interval_ms:
                continue
            most_ms = self._welcome.max_unacked_ms if self._welcome else _DEFAULT_UNACKED_MS
            for runner in list(self._runners.values()):
                if runner.record.step < Step.ENDED:
                    await self._doubt(runner, silent_ms, most_ms, SILENT_INTERVALS * interval_ms)
                else:
                    await self._settle_without_market(runner, out_of_patience=silent_ms > most_ms)

    async def _doubt(self, runner: AttemptRunner, silent_ms: int, most_ms: int, patience_ms: int) -> None:
        """Whether running work may go on unacknowledged. Source: system.md section 5, step 8."""
        if silent_ms > most_ms:
            runner.stop(_quit(f"the market was silent for {silent_ms // 1000} s"))
            return
        if self._chain is None:
            return
        key = runner.record.key
        try:
            assignment = await self._chain.look(runner.record)
        except (ChainSilent, ChainRefused):
            # A single lost answer proves nothing; as long a silence as the market's does.
            since = self._silent_since_ms.setdefault(key, self._clock.monotonic_ms())
            if self._clock.monotonic_ms() - since > patience_ms:
                runner.stop(_quit("market and chain are both silent"))
            return
        self._silent_since_ms.pop(key, None)
        if assignment.standing is Standing.OVER:
            runner.stop(_quit("the escrow is no longer assigned to this node"))

    async def _settle_without_market(self, runner: AttemptRunner, *, out_of_patience: bool) -> None:
        """Be paid by what the meter countersigned, at our own cost; the chain refuses a second time.

        A last voucher of both sides settles at once. Without one, quitting gives up what was not acknowledged and
        sends finished work to another node: so it waits for the market as long as running work would, but not
        until strangers may reap the escrow.
        """
        record, chain = runner.record, self._chain
        if chain is None:
            return
        try:
            if (await chain.look(record)).standing is not Standing.ASSIGNED:
                runner.forget()
                return
            accepted = record.accepted
            if accepted is not None and record.voucher == accepted.voucher:
                signature = await chain.settle(record, accepted)
            elif self._may_quit(record, await chain.time_ms(), out_of_patience=out_of_patience):
                signature = await chain.quit(record, accepted)
            else:
                return
        except (ChainSilent, ChainRefused) as error:
            _log.warning("not settled yet", action="self_settle_failed", error=str(error))
            return
        _log.info("settled without the market", action="self_settled", transaction=signature)
        runner.forget()

    def _leave(self, runner: AttemptRunner) -> None:
        """The market knows nothing of an attempt. It may be over, or the market has lost its store: the chain tells.

        Nothing that the meter signed is given up on the market's word alone.
        """
        if self._chain is None:
            runner.forget()
            return
        runner.disown()
        key = runner.record.key
        if key not in self._leaving:
            task = asyncio.create_task(self._settle_disowned(runner))
            self._leaving[key] = task
            task.add_done_callback(lambda _done: self._leaving.pop(key, None))

    async def _settle_disowned(self, runner: AttemptRunner) -> None:
        key = runner.record.key
        while self._runners.get(key) is runner:
            if runner.record.step >= Step.ENDED:
                await self._settle_without_market(runner, out_of_patience=True)
            await asyncio.sleep(_DISOWNED_LOOK_S)

    def _may_quit(self, record: Attempt, now_ms: int, *, out_of_patience: bool) -> bool:
        # Earlier than three times lost_after it would count as a loss (program.md section 4, quit).
        since_ms = record.accepted.message.at_ms if record.accepted else record.claim_at_ms
        if now_ms <= since_ms + SILENT_INTERVALS * self._limits.windows.lost_after_ms:
            return False
        gave_up = record.ending is not None and record.ending.reason is Reason.NODE_QUIT
        reapable_ms = record.claim_at_ms + record.start_limit_ms + record.request.max_ms
        return gave_up or out_of_patience or now_ms > reapable_ms

    # --- cleanliness ---------------------------------------------------------------------------------------------

    async def _sweep_for_ever(self) -> None:
        """Remove what carries our label and has no journal row: left by a crash, owed to nobody."""
        age_s = 0.0  # at the start nothing is in flight
        while True:
            keep = frozenset(r.key for r in self._journal.attempts() if r.step is not Step.CLEARED)
            try:
                swept = await self._runtime.sweep(keep, older_than_s=age_s)
            except EngineUnavailable as error:
                _log.warning("engine silent", action="engine_silent", error=str(error))
            else:
                age_s = _SWEEP_AGE_S
                if swept.containers or swept.networks or swept.scratch:
                    _log.info("swept", action="swept", containers=len(swept.containers), scratch=len(swept.scratch))
            await asyncio.sleep(_SWEEP_EVERY_S)


def _quit(detail: str) -> Stop:
    return Stop(Reason.NODE_QUIT, 10_000, final=False, detail=detail)


def _pins(identity: Identity) -> dict[str, str]:
    return {
        "market": base58.b58encode(identity.market).decode(),
        "program_id": base58.b58encode(identity.program_id).decode(),
        "genesis_hash": base58.b58encode(identity.genesis_hash).decode(),
    }
