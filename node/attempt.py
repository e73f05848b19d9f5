"""The life of one attempt on this node, from its claim until nothing of it is left.

    claimed -> starting -> ready -> ended -> cleared -> forgotten

Each step is journalled before the act that it allows, so that a daemon that dies anywhere goes on where it was:
it never starts a second container, never opens a second voucher series, and never bills twice.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from marketplace.crash import crash_point
from marketplace.domain.reasons import Reason
from marketplace.domain.retries import RetryPolicy
from marketplace.protocol.control import (
    AllocationBeat,
    AttemptState,
    Claim,
    ClaimAck,
    Command,
    CommandType,
    Countersignature,
    FrameType,
    LogLine,
    Logs,
    LogsAck,
    Refusal,
    SignedVoucher,
    StateAck,
    StateReport,
    Used,
)
from marketplace.protocol.digests import LogDigest, voucher_digest
from marketplace.protocol.outputs import manifest_digest
from marketplace.protocol.terms import JobSpec
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from node.acceptance import container_limits
from node.chain import Chain, ChainRefused, ChainSilent, Standing
from node.checkpoints import CheckpointChanged, TooMuch, is_empty
from node.clock import Anchor, ChainClock, Clock
from node.collecting import find_files, read_progress
from node.control import ControlChannel
from node.endings import REQUEUING, ending, natural_reason, ordered_reason
from node.errors import InputUnavailable, MarketRefused
from node.hardware import MB
from node.journal import Attempt, Ending, Journal, Step, Stop
from node.keys import KeyPair
from node.logs import LogPump
from node.metering import Bounds, Identity
from node.reports import Reports
from node.runtime.errors import (
    AttemptConflict,
    CapabilityMissing,
    ContainerVanished,
    EngineUnavailable,
    ImageUnavailable,
    PullFailed,
    StartFailed,
)
from node.runtime.port import Container, ContainerSpec, Image, Login, Network, Outcome, Runtime
from node.transfers import Holder, LeaseLost, OutputRefused, OutputTooLarge, Transfers
from node.usage import NotTheMeter, Usage

_ENGINE_RETRY_S: Final = 1.0
_CHAIN_RETRY_S: Final = 1.0
# Chosen: how far our RPC may be behind the market's is a slot or two; the renter waits meanwhile.
_CHAIN_LAG_S: Final = 0.1
# Chosen: the container has ended, so its log is on disk; a minute covers an engine that restarts.
_LOG_END_S: Final = 60.0

_MINUTE_S: Final = 60.0
# Chosen: a job that writes a checkpoint is done with it in seconds, or writes all the time.
_CHECKPOINT_TRIES: Final = 5
_CHECKPOINT_PAUSE_S: Final = 2.0
# Chosen: half of what the market gives an attempt to deliver what it left.
_CHECKPOINT_END_S: Final = 900.0

# Chosen: finer than most heartbeats and coarse enough to cost nothing.
_MEASURE_S: Final = 5.0

_LEASE_LOST: Final = "lease_lost"
_CLOCK: Final = "clock"
_AHEAD: Final = "ahead"
_STATES: Final = {
    Step.CLAIMED: AttemptState.CLAIMED,
    Step.STARTING: AttemptState.PULLING,
    Step.READY: AttemptState.RUNNING,
    Step.ENDED: AttemptState.EXITED,
    Step.CLEARED: AttemptState.EXITED,
}
_OVER: Final = Stop(Reason.MARKET_ERROR, 0, final=False, detail="the market knows this attempt as over")
_LATE: Final = Stop(Reason.START_TIMEOUT, 0, final=False, detail="not ready within the limit")

# What ends an attempt by an error, and whether the last voucher then closes the escrow.
_FAILURES: Final[dict[type[Exception], tuple[Reason, bool]]] = {
    ImageUnavailable: (Reason.IMAGE_UNAVAILABLE, True),
    InputUnavailable: (Reason.INPUT_UNAVAILABLE, True),
    PullFailed: (Reason.PULL_FAILED, False),
    StartFailed: (Reason.START_TIMEOUT, False),
    CapabilityMissing: (Reason.START_TIMEOUT, False),
    AttemptConflict: (Reason.START_TIMEOUT, False),
    ContainerVanished: (Reason.NODE_QUIT, False),
    LeaseLost: (Reason.NODE_QUIT, False),
}

_log = structlog.get_logger("node.attempt")
_T = TypeVar("_T")


class Stopped(Exception):
    """The attempt is to end before its container ran; caught in this module only."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.detail or stop.reason.code)
        self.stop = stop


@dataclass(frozen=True, slots=True)
class Terms:
    """Limits that hold for every attempt.

    claim_limit_ms: how long a claim stays live.
    """

    claim_limit_ms: int
    max_image_bytes: int
    log_limit_bytes: int


@dataclass(frozen=True, slots=True)
class Tools:
    """What every attempt works with; one set per daemon. pause_ms: how long a job is held at its limit."""

    journal: Journal
    runtime: Runtime
    channel: ControlChannel
    clock: Clock
    key: KeyPair
    identity: Identity
    chain: Chain | None
    beat_soon: Callable[[], None]
    chain_clock: ChainClock
    pause_ms: Callable[[], int]
    transfers: Transfers


class AttemptRunner:
    """Drives one attempt. `run` is its one task; everything else is called from the agent."""

    def __init__(self, record: Attempt, spec: JobSpec, tools: Tools, terms: Terms) -> None:
        self._record = record
        self._spec = spec
        self._tools = tools
        self._terms = terms
        self._usage = Usage(tools.identity, tools.key, _bounds(record))
        self._reports = Reports(
            tools.journal,
            tools.channel,
            record.key,
            on_taken=self._on_report_taken,
            on_refused=self._on_report_refused,
        )
        self._pump: LogPump | None = None
        self._pump_task: asyncio.Task[None] | None = None
        self._disowned = False
        self._background: set[asyncio.Task[None]] = set()
        self._notes: Path | None = None
        # No time is shown to the meter before the engine has said that the work runs: it would be billed for good.
        self._runs = False
        self._url_asked_ms: int | None = None
        self._ready_taken_ms: int | None = None
        self._assigned_at_ms = 0
        # The last running voucher was refused for its time: the next one carries a time that the chain has reached.
        self._ahead = False
        # The meter countersigns nothing before it has taken `ready`: no voucher is shown until then.
        self._ready_taken = record.step >= Step.READY and not any(
            report.state is AttemptState.READY for report in self._reports.waiting()
        )
        self._assigned = asyncio.Event()
        self._ordered = asyncio.Event()
        self._extended = asyncio.Event()
        self._used: Used | None = None
        self._settled = asyncio.Event()
        self._abandoned = asyncio.Event()
        if record.assigned:
            self._assigned.set()
        if record.stop is not None:
            self._ordered.set()
        if record.started_at_ms is not None:
            self._usage.resume(record, record.started_at_ms)

    @property
    def record(self) -> Attempt:
        """The attempt as journalled."""
        return self._record

    @property
    def slots(self) -> int:
        """Slots that it holds; none once its container is gone."""
        return 0 if self._record.step is Step.CLEARED else self._spec.gpu_count

    @property
    def state(self) -> AttemptState:
        """How far it is, in the protocol's words."""
        if self._record.step is Step.READY and self._record.ending is not None:
            return AttemptState.UPLOADING
        return _STATES[self._record.step]

    @property
    def _metering(self) -> bool:
        """Whether the work goes on: its time is over as soon as its end is known, while its outputs still travel."""
        return self._record.step is Step.READY and self._record.ending is None

    @property
    def image(self) -> str:
        """The image as the renter wrote it."""
        return self._spec.image

    # --- what the agent tells it ---------------------------------------------------------------------------------

    def on_command(self, command: Command) -> None:
        """Obey a command that names this attempt. Each may come again without harm."""
        if command.type is CommandType.ASSIGNED:
            if not self._record.assigned:
                self._save(assigned=True)
            self._assigned.set()
        elif command.type is CommandType.STOP:
            self.stop(Stop(ordered_reason(command.reason), command.grace_ms, command.final))
        elif command.type is CommandType.EXTEND and command.extended_ms > self._record.extended_ms:
            self._spawn(self._take_extension(command))
        elif command.type is CommandType.SETTLED and not self._disowned:
            # Should the work still run, its account is closed: nobody pays for more of it.
            self.stop(_OVER)
            self._settled.set()

    def stop(self, stop: Stop) -> None:
        """End the attempt; the first order counts. Once the work is over an order can still end its delivery."""
        ended = self._record.ending
        if ended is not None and ended.reason is stop.reason:
            return  # the order that ended the work, come again
        if self._record.stop is None and self._record.step < Step.ENDED:
            self._save(stop=stop)
            self._ordered.set()

    def disown(self) -> None:
        """The market knows nothing of it: end the work, and keep what is owed for it until the chain says more."""
        self._disowned = True
        self.stop(_OVER)
        self._abandoned.set()

    def forget(self) -> None:
        """The attempt is over on chain, or the market has no more interest in it: end it and clear it away."""
        self.stop(_OVER)
        self._abandoned.set()
        self._settled.set()

    # --- what the agent takes from it ----------------------------------------------------------------------------

    def beat(self) -> AllocationBeat | None:
        """Its part of a heartbeat, with a new voucher while the meter runs; None before the lease."""
        record = self._record
        if record.lease_token is None:
            return None
        metering = self._metering and self._ready_taken and self._runs
        if metering:
            self._save(voucher=self._sign(self._showable_ms(), VoucherState.RUNNING, Reason.RUNNING))
        return AllocationBeat(
            allocation_id=record.key.allocation,
            attempt=record.key.attempt,
            lease_token=record.lease_token,
            state=self.state,
            progress=None if self._notes is None or record.step is not Step.READY else read_progress(self._notes),
            voucher=self._record.voucher if metering else None,
            extended_ms=self._record.extended_ms,
            used=self._used,
        )

    def on_countersigned(self, countersignature: Countersignature) -> None:
        """Keep the meter's signature if it is one, over a voucher that we signed."""
        try:
            found = self._usage.find_accepted(countersignature, self._record.meter_key)
        except NotTheMeter:
            _log.error("not the meter's signature", action="bad_countersignature", **self._names)
            return
        accepted = self._record.accepted
        self._ahead = False
        if found is not None and (accepted is None or accepted.message.sequence < found.message.sequence):
            self._save(accepted=found)

    def on_refused(self, refusal: Refusal) -> None:
        """The meter did not countersign. Time that it could not have seen is given up, once; we go on.

        Time that the chain has not reached yet is given up by nobody: it is billed when the chain has.
        """
        _log.warning("voucher refused", action="voucher_refused", code=refusal.code, **self._names)
        record = self._record
        running = self._usage.runs and self._metering and self._ready_taken_ms is not None
        if refusal.code == _AHEAD and self._usage.runs and self._metering:
            self._ahead = True
            self._usage.step_back(record.accepted.message if record.accepted else None)
        if refusal.code != _CLOCK or not running:
            return
        # The market's clock of this attempt began when it took our `ready`, not when we were.
        unseen = max(0, (self._ready_taken_ms or 0) - self._usage.series.started_at_ms)
        if self._usage.concede(unseen, record.accepted.message if record.accepted else None):
            self._save(conceded_ms=unseen)

    # --- its life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the attempt is forgotten. Cancelling it leaves the container alone, for the next daemon."""
        try:
            if not await self._hold_lease():
                return
            if self._record.step < Step.ENDED:
                await self._end(await self._live())
            await self._clear()
        finally:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)

    async def _live(self) -> Ending:
        """From where the journal stands to the end of the work."""
        self._spawn(self._reports.deliver())
        try:
            if self._record.step < Step.READY:
                self._ready(await self._until_started())
            self._start_pump()
            end = self._record.ending
            if end is None:
                await self._look_at_it()
                end = await self._until_over()
            return await self._delivered(end)
        except Stopped as error:
            return self._ending(error.stop.reason, final=error.stop.final, detail=error.stop.detail)
        except tuple(_FAILURES) as error:
            reason, final = next(end for kind, end in _FAILURES.items() if isinstance(error, kind))
            return self._ending(reason, final=final, detail=str(error))
        except Exception as error:  # noqa: BLE001 - the edge of an attempt; reported and logged
            # Nobody foresaw it. The container must not run on unseen: the renter's work goes on at another node.
            _log.exception("a fault of this node", action="attempt_fault", **self._names)
            with contextlib.suppress(ContainerVanished):
                await self._engine(lambda: self._tools.runtime.stop(self._record.key, grace_s=0))
            return self._ending(Reason.NODE_QUIT, final=False, detail=f"a fault of the node: {type(error).__name__}")

    async def _hold_lease(self) -> bool:
        """Give the market our consent, until it takes or refuses it, or the claim is no longer live."""
        record = self._record
        if record.lease_token is not None:
            return True
        claim = Claim(
            allocation_id=record.key.allocation,
            attempt=record.key.attempt,
            at_ms=record.claim_at_ms,
            signature=record.claim_signature,
        )
        asking = self._tools.channel.insist(
            FrameType.CLAIM, claim, ClaimAck, re=record.request_frame, names=self._names
        )
        try:
            ack = await self._while_claim_lives(asking)
        except (MarketRefused, TimeoutError, Stopped) as error:
            _log.info("claim not taken", action="claim_not_taken", error=str(error) or "no answer", **self._names)
            self._tools.journal.forget(record.key)
            return False
        self._save(lease_token=ack.lease_token)
        return True

    async def _while_claim_lives(self, asking: Coroutine[Any, Any, ClaimAck]) -> ClaimAck:
        """The answer. Raises TimeoutError when the claim can no longer bind us and the chain shows no assignment."""
        task = asyncio.create_task(asking)
        try:
            while True:
                left_ms = self._record.claim_at_ms + self._terms.claim_limit_ms - self._now_ms()
                done, _ = await asyncio.wait({task}, timeout=max(left_ms / 1000, _CHAIN_RETRY_S))
                if done:
                    return task.result()
                if self._now_ms() <= self._record.claim_at_ms + self._terms.claim_limit_ms:
                    continue
                if self._tools.chain is None or not await self._assigned_on_chain(self._tools.chain):
                    raise TimeoutError
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _until_started(self) -> Container:
        """Pull while the chain confirms, then start. Raises Stopped and the engine's errors."""
        limit_s = max(0, self._start_by_ms() - self._now_ms()) / 1000
        try:
            async with asyncio.timeout(limit_s):
                self._report(AttemptState.PULLING)
                image = await self._unless_stopped(self._engine(self._prepare))
                if image.digest != self._record.image_digest:
                    self._save(image_digest=image.digest)
                crash_point("node.pulling")
                await self._unless_stopped(self._until_assigned())
                input_name = await self._unless_stopped(self._stage())
        except TimeoutError as error:
            if self._waited_for_url_ms() * 2 > self._record.start_limit_ms:
                raise InputUnavailable("the input's host took most of the time in which a job has to start") from error
            raise Stopped(_LATE) from error
        self._save(step=Step.STARTING)
        return await self._start(image, input_name)

    async def _stage(self) -> str | None:
        """Put what the job reads where it will find it; its name there. Raises InputUnavailable, CapabilityMissing."""
        spec, key = self._spec, self._record.key
        if spec.input is None and not spec.after and spec.checkpoint_minutes is None:
            return None
        limits = container_limits(spec)
        staged = await self._engine(lambda: self._tools.runtime.stage(key, limits))
        if staged is None:
            raise CapabilityMissing("this node has no disk that an input could be put on")
        # What a daemon that is gone has started was given its folders; they are the job's own by now.
        fresh = await self._engine(partial(self._tools.runtime.find, key)) is None
        transfers, holder = self._tools.transfers, self._holder
        try:
            if spec.after and fresh:
                await transfers.fetch_artifacts(holder, staged.inputs)
            saved = spec.checkpoint_minutes is not None and fresh
            if saved and await transfers.restore_checkpoint(holder, staged.checkpoint):
                _log.info("goes on from a checkpoint", action="checkpoint_restored", **self._names)
            if spec.input is None:
                return None
            if spec.input.kind == "url":
                self._url_asked_ms = self._now_ms()
            return await transfers.fetch(holder, spec.input, staged.inputs)
        except OutputRefused as refused:
            raise InputUnavailable(str(refused)) from refused

    def _waited_for_url_ms(self) -> int:
        """How long a host of the renter's choice was waited for; it can be slow on purpose."""
        return 0 if self._url_asked_ms is None else self._now_ms() - self._url_asked_ms

    async def _start(self, image: Image, input_name: str | None) -> Container:
        """Outside the time limit: a start that is cut off half-way would leave a container behind."""
        spec = self._container_spec(image, input_name)
        while True:
            try:
                return await self._tools.runtime.start(spec)
            except EngineUnavailable as error:
                if self._record.stop is not None:
                    raise Stopped(self._record.stop) from error
                if self._now_ms() > self._start_by_ms():
                    raise Stopped(_LATE) from error
                await asyncio.sleep(_ENGINE_RETRY_S)

    def _start_by_ms(self) -> int:
        return self._record.claim_at_ms + self._record.start_limit_ms

    async def _prepare(self) -> Image:
        digest = self._record.image_digest or self._spec.image_digest
        asks = self._spec.registry_login
        login = None if asks is None else Login(asks.username, asks.password, asks.registry)
        return await self._tools.runtime.prepare(
            self._spec.image, digest=digest, max_bytes=self._terms.max_image_bytes, login=login
        )

    def _container_spec(self, image: Image, input_name: str | None) -> ContainerSpec:
        spec = self._spec
        return ContainerSpec(
            key=self._record.key,
            image=image,
            limits=container_limits(spec),
            entrypoint=spec.entrypoint,
            command=spec.command,
            env=tuple(sorted({**spec.env, **(spec.secrets or {})}.items())),
            workdir=spec.workdir,
            network=Network(spec.network),
            shm_bytes=None if spec.shm_mb is None else spec.shm_mb * MB,
            ulimits=tuple(sorted((spec.ulimits or {}).items())),
            input_name=input_name,
            checkpoint=spec.checkpoint_minutes is not None,
        )

    async def _until_assigned(self) -> None:
        """Until the chain says that the attempt is ours. Raises Stopped when it can no longer become so.

        Without an RPC of our own the market's word has to do; with one, the escrow's word counts alone.
        """
        chain = self._tools.chain
        while True:
            if chain is None:
                if self._assigned.is_set():
                    return
            elif await self._assigned_on_chain(chain):
                return
            if self._now_ms() > self._record.claim_at_ms + self._terms.claim_limit_ms and not self._assigned.is_set():
                raise Stopped(Stop(Reason.NODE_QUIT, 0, final=False, detail="not assigned while the claim was live"))
            await self._told_or_soon()

    async def _told_or_soon(self) -> None:
        """Until the market says `assigned`; once it has, until the chain may be asked again."""
        if self._assigned.is_set():
            await asyncio.sleep(_CHAIN_LAG_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CHAIN_RETRY_S):
                await self._assigned.wait()

    async def _assigned_on_chain(self, chain: Chain) -> bool:
        """Whether the escrow is assigned to us at the agreed price. Raises Stopped when it is to someone else."""
        try:
            assignment = await chain.look(self._record)
        except (ChainSilent, ChainRefused):
            return False
        if assignment.standing is Standing.OVER:
            raise Stopped(Stop(Reason.NODE_QUIT, 0, final=False, detail="the escrow is not assigned to this node"))
        if assignment.standing is Standing.WAITING:
            return False
        if assignment.price_per_hour != self._record.request.price_per_hour:
            raise Stopped(Stop(Reason.NODE_QUIT, 0, final=False, detail="assigned at another price than agreed"))
        self._assigned_at_ms = assignment.assigned_at_ms
        self._save(assigned=True, meter_key=assignment.meter_key)
        return True

    def _ready(self, container: Container) -> None:
        """The meter is on: the attempt's time is set by the chain's once more, and from here on runs by ours.

        The program refuses a start before the assignment; one that lies ahead of the chain would be refused with all
        that follows it.
        """
        now = max(self._showable_ms(), self._assigned_at_ms)
        self._usage.resume(self._record, now)
        anchor = Anchor.set(self._tools.clock, now)
        self._report(AttemptState.READY, started_at_ms=now, step=Step.READY, anchor=anchor)
        crash_point("node.running")
        _log.info("ready", action="ready", container=container.container_id, **self._names)

    async def _until_over(self) -> Ending:
        """Until the container exits, an order comes, or the limit is reached. Raises ContainerVanished."""
        key = self._record.key
        exited = asyncio.create_task(self._engine(partial(self._tools.runtime.wait, key)))
        ordered = asyncio.create_task(self._ordered.wait())
        measuring = asyncio.create_task(self._measure_for_ever())
        saving = asyncio.create_task(self._save_for_ever())
        try:
            while True:
                await self._until_limit(exited, ordered)
                if exited.done():
                    return await self._natural(exited.result())
                if ordered.done() or not await self._held(exited, ordered):
                    break
            reason = Reason.OUT_OF_FUNDS if self._usage.bounds.ends_for_want_of_funds else Reason.TIMEOUT
            self.stop(Stop(reason, self._spec.stop_grace_s * 1000, final=True))  # an earlier order goes before
            return await self._obey_stop()
        finally:
            for task in (exited, ordered, measuring, saving):
                task.cancel()
            await asyncio.gather(exited, ordered, measuring, saving, return_exceptions=True)

    async def _until_limit(self, *before: asyncio.Task[Any]) -> None:
        """Until the limit is reached, or one of these is done. A concession or an extension moves the limit."""
        while (left := self._usage.series.limit_at_ms - self._now_ms()) > 0 and self._record.paused_at_ms is None:
            self._extended.clear()
            await self._any_of(*before, timeout_ms=left)
            if any(task.done() for task in before):
                return

    async def _held(self, *before: asyncio.Task[Any]) -> bool:
        """At the limit: hold the container, unbilled, until there is more time. False: there was none in time.

        True also when one of `before` was done first. Written down before it is done: a daemon that dies in between
        finds it held, or holds it, and the market hears of it.
        """
        key, runtime = self._record.key, self._tools.runtime
        window_ms = self._tools.pause_ms()
        if self._record.paused_at_ms is None:
            if window_ms <= 0:
                return False
            at_ms = self._usage.series.limit_at_ms
            self._usage.pause(at_ms)
            self._report(AttemptState.PAUSED, paused_at_ms=at_ms)
            _log.info("held at its limit", action="paused", **self._names)
        if not await self._engine(lambda: runtime.pause(key)):
            # It has just ended, or nothing can be held here.
            found = await self._engine(lambda: runtime.find(key))
            return found is None or found.outcome is not None
        until_ms = (self._record.paused_at_ms or 0) + window_ms
        while self._usage.bounds.limit_ms <= self._limit_held_at():
            left = until_ms - self._now_ms()
            if left <= 0:
                return False
            self._extended.clear()
            await self._any_of(*before, timeout_ms=left)
            if any(task.done() for task in before):
                return True
        await self._engine(lambda: runtime.resume(key))
        self._usage.go_on(self._now_ms())
        series = self._usage.series
        self._report(AttemptState.RUNNING, paused_at_ms=None, paused_ms=series.paused_ms)
        self._tools.beat_soon()
        _log.info("goes on", action="resumed", paused_ms=series.paused_ms, **self._names)
        return True

    def _limit_held_at(self) -> int:
        """Billed milliseconds at which it was held."""
        series = self._usage.series
        return (self._record.paused_at_ms or 0) - series.started_at_ms - series.conceded_ms - series.paused_ms

    async def _any_of(self, *tasks: asyncio.Task[Any], timeout_ms: int) -> None:
        """Until one is done, more time came, or this time has passed. The tasks go on."""
        more = asyncio.create_task(self._extended.wait())
        try:
            await asyncio.wait({*tasks, more}, timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()
            await asyncio.gather(more, return_exceptions=True)

    async def _take_extension(self, command: Command) -> None:
        """More time and deposit: by the escrow's word where it can be asked, by the market's where it can't."""
        if self._tools.chain is not None:
            try:
                assignment = await self._tools.chain.look(self._record)
            except (ChainSilent, ChainRefused):
                return  # the next heartbeat's answer says it again
            if assignment.deposit < self._record.request.deposit + command.extended_deposit:
                return
        if command.extended_ms > self._record.extended_ms:
            self._save(extended_ms=command.extended_ms, extended_deposit=command.extended_deposit)
            self._usage.extend(_bounds(self._record))
            self._extended.set()
            self._tools.beat_soon()

    async def _measure_for_ever(self) -> None:
        """What the container uses, looked at now and then for the heartbeats; a look that fails is left out."""
        while True:
            with contextlib.suppress(EngineUnavailable):
                used = await self._tools.runtime.measure(self._record.key)
                if used is not None:
                    self._used = Used(
                        cpu_ms=used.cpu_ms,
                        memory_bytes=used.memory_bytes,
                        received_bytes=used.received_bytes,
                        sent_bytes=used.sent_bytes,
                    )
            await asyncio.sleep(_MEASURE_S)

    async def _save_for_ever(self) -> None:
        """Send the job's checkpoint every so often, where it asked for that."""
        minutes = self._spec.checkpoint_minutes
        container = await self._engine(partial(self._tools.runtime.find, self._record.key))
        if minutes is None or container is None or container.checkpoint is None:
            return
        while True:
            await asyncio.sleep(minutes * _MINUTE_S)
            try:
                await self._save_checkpoint(container.checkpoint)
            except LeaseLost:
                return  # the next report says so, too

    async def _save_checkpoint(self, folder: Path) -> None:
        """Once; what can't be saved now leaves the one before it in place. Raises LeaseLost."""
        if await asyncio.to_thread(is_empty, folder):
            return
        why = "it was written to all the while"
        for _ in range(_CHECKPOINT_TRIES):
            try:
                await self._tools.transfers.save_checkpoint(self._holder, folder)
            except CheckpointChanged:
                await asyncio.sleep(_CHECKPOINT_PAUSE_S)
            except (TooMuch, OutputRefused, OSError) as error:
                why = str(error)
                break
            else:
                _log.info("checkpoint saved", action="checkpoint_saved", **self._names)
                return
        _log.warning("checkpoint not saved", action="checkpoint_not_saved", error=why, **self._names)

    async def _obey_stop(self) -> Ending:
        stop = self._record.stop
        if stop is None:
            raise AssertionError("an order is journalled before it is announced")
        key, grace_s = self._record.key, stop.grace_ms / 1000
        outcome = await self._engine(lambda: self._tools.runtime.stop(key, grace_s=grace_s))
        at_ms = await self._finished_ms(outcome)
        return ending(stop.reason, at_ms, final=stop.final, detail=stop.detail, outcome=outcome)

    async def _natural(self, outcome: Outcome) -> Ending:
        at_ms = await self._finished_ms(outcome)
        reason = natural_reason(outcome)
        goes_on = self._retry.leaves_open(self._record.key.attempt, reason, outcome.exit_code)
        return ending(reason, at_ms, final=not goes_on, detail=outcome.message, outcome=outcome)

    @property
    def _retry(self) -> RetryPolicy:
        """What the renter agreed to: after a listed exit code the escrow stays open for another attempt."""
        terms = self._spec.retry
        if terms is None:
            return RetryPolicy()
        return RetryPolicy(terms.max_attempts, exit_codes=frozenset(terms.exit_codes))

    async def _finished_ms(self, outcome: Outcome) -> int:
        """Chain time at which the container ended, never later than now.

        By the engine's own times, so that an exit while this daemon was down is billed to its real end.
        """
        series = self._usage.series
        container = await self._engine(partial(self._tools.runtime.find, self._record.key))
        if container is None or container.started_at is None:
            # It never ran (its command can't be executed), or is gone: nothing beyond what was signed.
            return max(series.at_ms, series.started_at_ms)
        ran_ms = int((outcome.finished_at - container.started_at).total_seconds() * 1000)
        return min(self._now_ms(), series.started_at_ms + max(0, ran_ms))

    def _ending(self, reason: Reason, *, final: bool, detail: str | None = None) -> Ending:
        """An end without a known outcome: what was signed last is all that may be billed."""
        at_ms = self._usage.series.at_ms if self._usage.runs else self._now_ms()
        return ending(reason, at_ms, final=final, detail=detail)

    async def _look_at_it(self) -> None:
        """Where it leaves its notes, and whether it runs: it may have ended while no daemon looked."""
        container = await self._engine(partial(self._tools.runtime.find, self._record.key))
        if container is not None:
            self._notes = container.notes
            self._runs = container.outcome is None

    async def _delivered(self, end: Ending) -> Ending:
        """The end of the work, once what it left in /outputs is with the market. Its time was over before.

        What is delivered by an order to end stays delivered; so does what came before a refusal.
        """
        container = await self._engine(partial(self._tools.runtime.find, self._record.key))
        outputs = None if container is None or end.reason in REQUEUING else container.outputs
        checkpoint = None if container is None or not self._checkpointed(end) else container.checkpoint
        if self._record.ending is None:
            if not (await _holds_outputs(outputs) or await _holds_checkpoint(checkpoint)):
                return end
            # The order that ended the work is obeyed; another one that comes now ends the delivery.
            self._ordered.clear()
            self._report(AttemptState.UPLOADING, reason=end.reason, ending=end, stop=None)
            self._tools.beat_soon()
        crash_point("node.uploading")
        return await self._deliver(end, outputs, checkpoint)

    def _checkpointed(self, end: Ending) -> bool:
        """Whether the last state of /checkpoint is worth keeping: not after an end that nobody goes on from."""
        return self._spec.checkpoint_minutes is not None and end.reason is not Reason.COMPLETED

    async def _deliver(self, end: Ending, outputs: Path | None, checkpoint: Path | None) -> Ending:
        """Into the market's hands, and where no other attempt follows from there to where the renter wants them."""
        try:
            if checkpoint is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CHECKPOINT_END_S):
                        await self._unless_stopped(self._save_checkpoint(checkpoint))
            if outputs is None:
                return end
            files = await self._unless_stopped(self._tools.transfers.deliver(self._holder, outputs))
            end = replace(end, outputs=manifest_digest(files).hex() or None)
            if files and end.final:
                await self._unless_stopped(self._tools.transfers.hand_over(self._holder))
        except Stopped as stopped:
            stop = stopped.stop
            return replace(end, reason=stop.reason, final=stop.final, detail=stop.detail or None)
        except LeaseLost as error:
            return replace(end, reason=Reason.NODE_QUIT, final=False, detail=str(error))
        except OutputTooLarge as error:
            return replace(end, reason=Reason.OUTPUT_TOO_LARGE, final=True, detail=str(error))
        except OutputRefused as error:
            return replace(end, reason=Reason.OUTPUT_DELIVERY_FAILED, final=True, detail=str(error))
        return end

    @property
    def _holder(self) -> Holder:
        if self._record.lease_token is None:
            raise AssertionError("transfers follow the lease")
        return Holder(self._record.key, self._record.lease_token)

    async def _end(self, end: Ending) -> None:
        """Sign the last voucher and write down that the market has to take it."""
        if self._pump is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOG_END_S):
                    await self._pump.read_to_end()
        crash_point("node.before_final_voucher")
        self._report_exit(end)
        crash_point("node.after_final_voucher")
        facts = {"reason": end.reason.code, "exit_code": end.exit_code, "detail": end.detail}
        _log.info("ended", action="ended", **facts, **self._names)

    def _report_exit(self, end: Ending) -> None:
        voucher = None
        if self._usage.runs:
            state = VoucherState.FINAL if end.final else VoucherState.ENDED
            voucher = self._sign(end.at_ms, state, end.reason, bytes.fromhex(end.outputs or ""))
        self._report(
            AttemptState.EXITED,
            reason=end.reason,
            exit_code=end.exit_code,
            detail=end.detail,
            voucher=voucher,
            step=Step.ENDED,
            ending=end,
        )

    async def _clear(self) -> None:
        """Deliver what is left, clear the machine, and wait until the money is settled."""
        if not self._background:
            self._spawn(self._reports.deliver())
        if self._record.step is Step.ENDED:
            if self._record.started_at_ms is not None:
                self._start_pump()
            if self._pump_task is not None:
                await _first(self._abandoned.wait(), self._settled_for_long(), asyncio.wait({self._pump_task}))
            await self._engine(partial(self._tools.runtime.remove, self._record.key))
            self._save(step=Step.CLEARED)
            self._tools.beat_soon()
        await _first(self._settled.wait(), self._nothing_owed())
        self._tools.journal.forget(self._record.key)
        _log.info("forgotten", action="forgotten", **self._names)

    async def _settled_for_long(self) -> None:
        """The money is settled; the last lines of output get a while more to be taken."""
        await self._settled.wait()
        await asyncio.sleep(_LOG_END_S)

    async def _nothing_owed(self) -> None:
        """Returns when the market has taken the last report of an attempt that was never ready."""
        while self._record.voucher is not None or self._reports.waiting():
            await self._reports.some_taken()

    # --- reports and logs ----------------------------------------------------------------------------------------

    def _on_report_taken(self, report: StateReport, ack: StateAck) -> None:
        if report.state is AttemptState.READY:
            self._ready_taken_ms = self._now_ms()
            self._ready_taken = True
            self._tools.beat_soon()
        if ack.countersignature is not None:
            self.on_countersigned(ack.countersignature)

    def _on_report_refused(self, report: StateReport, error: MarketRefused) -> None:
        _log.warning("report refused", action="report_refused", state=report.state, code=error.code, **self._names)
        if error.code == _LEASE_LOST:
            self.stop(Stop(Reason.NODE_QUIT, 0, final=False, detail="the market gave the attempt to another node"))
        elif report.state is AttemptState.EXITED and report.voucher is not None and self._record.ending is not None:
            self._offer_less(VoucherMessage.from_fields(report.voucher.fields), self._record.ending)

    def _offer_less(self, refused: VoucherMessage, end: Ending) -> None:
        """The meter did not take the last voucher: show one that bills no more than it has already signed.

        Arguing is pointless once the work is over: time that the meter has not countersigned is never paid, and
        only a voucher of both sides closes the escrow without a contest. Where not even that is taken, the end is
        reported without a voucher: the market then releases the attempt by the last countersigned one, and the
        slot is free. So each attempt comes to an end after at most three reports.
        """
        accepted = self._record.accepted.message if self._record.accepted else None
        at_ms = accepted.at_ms if accepted else refused.started_at_ms
        self._usage.give_up_the_rest(accepted)
        if (refused.billed_ms, refused.at_ms) == (accepted.billed_ms if accepted else 0, at_ms):
            self._report_bare_exit(end)
        else:
            self._report_exit(replace(end, at_ms=at_ms))

    def _report_bare_exit(self, end: Ending) -> None:
        _log.warning("ended without a last voucher", action="ended_bare", reason=end.reason.code, **self._names)
        self._report(AttemptState.EXITED, reason=end.reason, exit_code=end.exit_code, detail=end.detail)

    def _report(
        self,
        state: AttemptState,
        *,
        reason: Reason = Reason.RUNNING,
        exit_code: int | None = None,
        started_at_ms: int | None = None,
        detail: str | None = None,
        voucher: SignedVoucher | None = None,
        **changes: Any,
    ) -> None:
        """Journal a report together with the step it tells of; `Reports` sends it."""
        record = self._record
        if record.lease_token is None:
            raise AssertionError("reports follow the lease")
        sequence = record.report_sequence + 1
        if started_at_ms is not None:
            changes["started_at_ms"] = started_at_ms
        if voucher is not None:
            changes["voucher"] = voucher
        self._record = replace(record, report_sequence=sequence, **changes)
        report = StateReport(
            allocation_id=record.key.allocation,
            attempt=record.key.attempt,
            lease_token=record.lease_token,
            sequence=sequence,
            state=state,
            reason=reason.value,
            exit_code=exit_code,
            started_at_ms=started_at_ms,
            image_digest=record.image_digest,
            detail=detail,
            voucher=voucher,
        )
        self._reports.add(self._record, report)

    def _start_pump(self) -> None:
        if self._pump is not None:
            return
        self._pump = LogPump(
            self._tools.runtime,
            self._record.key,
            limit_bytes=self._terms.log_limit_bytes,
            next_seq=self._record.log_next_seq,
            send=self._send_logs,
        )
        self._pump_task = self._spawn(self._pump.run())

    async def _send_logs(self, lines: tuple[LogLine, ...]) -> int:
        """Lines to the market. Lines that it refuses for good are dropped: the container must go some day."""
        record = self._record
        if record.lease_token is None:
            raise AssertionError("logs follow the lease")
        body = Logs(
            allocation_id=record.key.allocation,
            attempt=record.key.attempt,
            lease_token=record.lease_token,
            lines=lines,
        )
        try:
            ack = await self._tools.channel.insist(FrameType.LOGS, body, LogsAck, names=self._names)
        except MarketRefused as error:
            _log.warning("logs refused", action="logs_refused", code=error.code, lines=len(lines), **self._names)
            return lines[-1].seq + 1
        if ack.next_seq > self._record.log_next_seq:
            self._save(log_next_seq=ack.next_seq)
        return ack.next_seq

    # --- vouchers and the record ---------------------------------------------------------------------------------

    def _sign(self, now_ms: int, state: VoucherState, reason: Reason, outputs: bytes = b"") -> SignedVoucher:
        """The next voucher of the series. The caller journals it before it is shown to anybody."""
        log_digest = self._pump.digest() if self._pump else LogDigest().value()
        return self._usage.sign(now_ms, voucher_digest(log_digest, outputs), state, reason)

    def _showable_ms(self) -> int:
        """Now, as far as the chain is known to be by the market's word; it refuses what lies ahead of that."""
        chain = self._tools.chain_clock
        reached = chain.known_ms() if self._ahead else chain.now_ms()
        return self._now_ms() if reached is None else min(self._now_ms(), reached)

    def _now_ms(self) -> int:
        return self._record.anchor.now_ms(self._tools.clock)

    def _save(self, **changes: Any) -> None:
        self._record = replace(self._record, **changes)
        self._tools.journal.save(self._record)

    @property
    def _names(self) -> dict[str, object]:
        return {"allocation": self._record.key.allocation, "attempt": self._record.key.attempt}

    # --- waiting -------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._on_background_end)
        return task

    def _on_background_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background work failed", action="attempt_failed", exc_info=error, **self._names)

    async def _engine(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until the engine answers: nothing may be concluded from its silence."""
        while True:
            try:
                return await call()
            except EngineUnavailable as error:
                _log.warning("engine silent", action="engine_silent", error=str(error), **self._names)
                await asyncio.sleep(_ENGINE_RETRY_S)

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The work's result. Raises Stopped when an order to end comes first."""
        task = asyncio.create_task(work)
        ordered = asyncio.create_task(self._ordered.wait())
        try:
            await asyncio.wait({task, ordered}, return_when=asyncio.FIRST_COMPLETED)
            if self._record.stop is not None:
                raise Stopped(self._record.stop)
            return task.result()
        finally:
            for each in (task, ordered):
                each.cancel()
            await asyncio.gather(task, ordered, return_exceptions=True)


def _bounds(record: Attempt) -> Bounds:
    return Bounds.of(record.request, record.extended_ms, record.extended_deposit)


async def _holds_outputs(folder: Path | None) -> bool:
    return folder is not None and bool(await asyncio.to_thread(find_files, folder, most=0))


async def _holds_checkpoint(folder: Path | None) -> bool:
    return folder is not None and not await asyncio.to_thread(is_empty, folder)


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Until one of them is done; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
