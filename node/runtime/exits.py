"""Tells waiters that a container may have ended. A hint: the waiter reads the container itself.

One subscription to the engine's events for the whole deployment; `POST /wait` answers late on Podman. After a gap
in the subscription every waiter is woken, so nothing that happened meanwhile is missed.
"""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator

from node.runtime.engine import Engine
from node.runtime.errors import EngineError
from node.runtime.naming import DEPLOYMENT

_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # chosen: an engine's restart takes a second or two


class ExitHints:
    """Wakes whoever watches a container's name."""

    def __init__(self, engine: Engine, deployment: str) -> None:
        self._engine = engine
        self._deployment = deployment
        self._watched: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever a look at the container is worth it; clear it before looking."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="container events")
        event = asyncio.Event()
        self._watched[name].append(event)
        try:
            yield event
        finally:
            self._watched[name].remove(event)
            if not self._watched[name]:
                del self._watched[name]

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        filters = {"type": ["container"], "event": ["die", "destroy"], "label": [f"{DEPLOYMENT}={self._deployment}"]}
        failures = 0
        while True:
            with contextlib.suppress(EngineError):  # counted just below; waiters poll meanwhile
                async with self._engine.stream("GET", "events", params={"filters": json.dumps(filters)}) as answer:
                    failures = 0
                    self._wake_all()
                    async for line in answer.content:
                        self._wake(json.loads(line))
            self._wake_all()
            await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
            failures += 1

    def _wake(self, event: dict[str, dict[str, dict[str, str]]]) -> None:
        name = event.get("Actor", {}).get("Attributes", {}).get("name", "")
        for waiting in self._watched.get(name, ()):
            waiting.set()

    def _wake_all(self) -> None:
        for events in self._watched.values():
            for event in events:
                event.set()
