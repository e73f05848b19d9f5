"""What has to be here before the work runs: the image, what it reads, what an earlier attempt handed on; the start.

Nothing of it is paid. All but the start itself ends with the start limit, which stands still while a checkpoint is
restored.
"""

import asyncio
from functools import partial
from typing import Final

from marketplace.crash import crash_point
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState
from node.attempt.claiming import Claiming
from node.attempt.orders import Orders, Stopped
from node.attempt.restoring import Restoring
from node.attempt.telling import Telling
from node.attempt.work import ENGINE_RETRY_S, Work
from node.contract import container_limits, container_of
from node.errors import InputUnavailable
from node.journal import Step, Stop
from node.runtime.errors import CapabilityMissing, EngineUnavailable
from node.runtime.port import Container, Image, Login
from node.transfers import OutputRefused

_LATE: Final = Stop(Reason.START_TIMEOUT, 0, final=False, detail="not ready within the limit")


class Preparing:
    """From the lease to the started container."""

    def __init__(self, work: Work, orders: Orders, claiming: Claiming, telling: Telling) -> None:
        self._work = work
        self._orders = orders
        self._claiming = claiming
        self._telling = telling
        self._restoring = Restoring(work)
        self._url_asked_ms: int | None = None

    async def until_started(self) -> Container:
        """Pull while the chain confirms, then start. Raises Stopped and the engine's errors."""
        work, orders = self._work, self._orders
        try:
            async with asyncio.timeout(self._left_s()) as limit:
                self._telling.tell(AttemptState.PULLING)
                image = await orders.unless_stopped(work.engine(self._pull))
                if image.digest != work.record.image_digest:
                    work.save(image_digest=image.digest)
                crash_point("node.pulling")
                await orders.unless_stopped(self._claiming.until_assigned())
                input_name = await orders.unless_stopped(self._stage(limit))
        except TimeoutError as error:
            if self._waited_for_url_ms() * 2 > work.record.start_limit_ms:
                raise InputUnavailable("the input's host took most of the time in which a job has to start") from error
            raise Stopped(_LATE) from error
        work.save(step=Step.STARTING)
        return await self._start(image, input_name)

    async def _pull(self) -> Image:
        work, asks = self._work, self._work.spec.registry_login
        return await work.tools.runtime.prepare(
            work.spec.image,
            digest=work.record.image_digest or work.spec.image_digest,
            max_bytes=work.terms.max_image_bytes,
            login=None if asks is None else Login(asks.username, asks.password, asks.registry),
        )

    async def _stage(self, limit: asyncio.Timeout) -> str | None:
        """Put what the job reads where it will find it; its name there. limit: of the start.

        Raises InputUnavailable, CapabilityMissing; Stopped where its checkpoint does not arrive.
        """
        work, spec = self._work, self._work.spec
        if spec.input is None and not spec.after and spec.checkpoint_minutes is None:
            return None
        staged = await work.engine(partial(work.tools.runtime.stage, work.record.key, container_limits(spec)))
        if staged is None:
            raise CapabilityMissing("this node has no disk that an input could be put on")
        # What a daemon that is gone has started was given its folders; they are the job's own by now.
        fresh = await work.look() is None
        transfers, holder = work.tools.transfers, work.holder
        try:
            if spec.after and fresh:
                await transfers.fetch_artifacts(holder, staged.inputs)
            if spec.checkpoint_minutes is not None and fresh:
                limit.reschedule(None)
                await self._restoring.restore(staged.checkpoint)
                limit.reschedule(asyncio.get_running_loop().time() + self._left_s())
            if spec.input is None:
                return None
            if spec.input.kind == "url":
                self._url_asked_ms = work.now_ms()
            return await transfers.fetch(holder, spec.input, staged.inputs)
        except OutputRefused as refused:
            raise InputUnavailable(str(refused)) from refused

    def _waited_for_url_ms(self) -> int:
        """How long a host of the renter's choice was waited for; it can be slow on purpose."""
        return 0 if self._url_asked_ms is None else self._work.now_ms() - self._url_asked_ms

    async def _start(self, image: Image, input_name: str | None) -> Container:
        """Outside the time limit: a start that is cut off half-way would leave a container behind."""
        work = self._work
        spec = container_of(work.spec, work.record.key, image, container_limits(work.spec), input_name)
        while True:
            try:
                return await work.tools.runtime.start(spec)
            except EngineUnavailable as error:
                if work.record.stop is not None:
                    raise Stopped(work.record.stop) from error
                if work.now_ms() > self._start_by_ms():
                    raise Stopped(_LATE) from error
                await asyncio.sleep(ENGINE_RETRY_S)

    def _start_by_ms(self) -> int:
        """Chain time until which it has to start; a checkpoint on its way moves it."""
        record = self._work.record
        return record.claim_at_ms + record.start_limit_ms + self._restoring.spent_ms()

    def _left_s(self) -> float:
        return max(0, self._start_by_ms() - self._work.now_ms()) / 1000
