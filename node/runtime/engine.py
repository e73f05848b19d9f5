"""The engine's HTTP API through aiodocker's connection: deadlines, typed failures, streams that are closed.

aiodocker's own objects hide what is needed here (which stream a log line came from, the status of a refusal), so
its request layer is used directly; it is the only module that touches the driver.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiodocker import Docker, DockerError
from aiodocker.execs import Exec
from aiodocker.stream import Stream

from node.runtime.errors import EngineError, EngineRefused, EngineUnavailable
from node.runtime.port import LogStream

QUICK_S = 20.0  # chosen: reads and small writes take milliseconds; beyond this the engine hangs
SLOW_S = 120.0  # chosen: create, start and delete on a machine under load
_RESIZE_TRIES = 20
_RESIZE_PAUSE_S = 0.1  # chosen: a person sees nothing of it
_STDERR = 2
_UNREACHABLE = 900  # aiodocker's status for "cannot connect"


class Engine:
    """One container engine. host: such as unix:///var/run/docker.sock; None lets aiodocker look for one."""

    def __init__(self, host: str | None) -> None:
        self._host = host
        self._docker: Docker | None = None

    async def get(self, path: str, **params: str) -> Any:
        return await self.call("GET", path, params=params)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = QUICK_S,
    ) -> Any:
        """The decoded JSON answer, None when it is empty. Raises EngineUnavailable, EngineRefused."""
        async with self.stream(
            method, path, params=params, body=body, headers=headers, timeout_s=timeout_s
        ) as response:
            text = await response.read()
        return json.loads(text) if text else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer while it comes in; closed at the end. timeout_s: over all, None for endless streams.

        Raises EngineUnavailable also when the connection breaks inside the block, EngineRefused on 4xx and 5xx.
        """
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._client()._do_query(  # noqa: SLF001 - see the module's first lines
                path,
                method,
                params=dict(params or {}),
                data=None if body is None else json.dumps(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=QUICK_S),
            )
            yield response
        except DockerError as error:
            if error.status == _UNREACHABLE:
                raise EngineUnavailable(f"the container engine does not answer: {error.message}") from error
            raise EngineRefused(error.status, error.message) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(f"the container engine does not answer: {error or type(error).__name__}") from error
        finally:
            if response is not None:
                response.close()

    async def attach(self, exec_id: str, *, tty: bool) -> "Attached":
        """Start an exec instance and hold its streams. Raises EngineUnavailable, EngineRefused."""
        docker = self._client()
        stream = Exec(docker, exec_id, tty=tty).start(detach=False)
        try:
            await stream._init()  # noqa: SLF001 - what its `async with` does
        except DockerError as error:
            raise EngineRefused(error.status, error.message) from error
        except (aiohttp.ClientError, OSError, AssertionError) as error:
            raise EngineUnavailable(f"the container engine does not answer: {error}") from error
        return Attached(self, exec_id, stream)

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    def _client(self) -> Docker:
        if self._docker is None:
            try:
                self._docker = Docker(url=self._host, api_version="auto")
            except (ValueError, DockerError, AssertionError) as error:  # it asserts when it finds no socket
                raise EngineUnavailable(f"no container engine was found {error}".strip()) from error
        return self._docker


class Attached:
    """A command beside a container's own, as `port.Beside` promises it."""

    def __init__(self, engine: Engine, exec_id: str, stream: Stream) -> None:
        self._engine = engine
        self._id = exec_id
        self._stream = stream

    async def read(self) -> tuple[LogStream, bytes] | None:
        try:
            message = await self._stream.read_out()
        except (aiohttp.ClientError, OSError):
            return None
        if message is None:
            return None
        return (LogStream.STDERR if message.stream == _STDERR else LogStream.STDOUT), message.data

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(RuntimeError, AssertionError, aiohttp.ClientError, OSError):  # it has ended
            await self._stream.write_in(data)

    async def end_input(self) -> None:
        response = self._stream._resp  # noqa: SLF001 - the driver ends both directions at once only
        if response is not None and response.connection is not None and response.connection.transport is not None:
            response.connection.transport.write_eof()

    async def resize(self, rows: int, cols: int) -> None:
        for _ in range(_RESIZE_TRIES):
            try:
                await self._engine.call("POST", f"exec/{self._id}/resize", params={"h": str(rows), "w": str(cols)})
            except EngineError:
                # The engine says "started" a moment before there is a terminal; after its end there is none any more.
                if await self.exit_code() is not None:
                    return
                await asyncio.sleep(_RESIZE_PAUSE_S)
            else:
                return

    async def exit_code(self) -> int | None:
        try:
            found = await self._engine.get(f"exec/{self._id}/json")
        except EngineError:
            return None
        code = found.get("ExitCode")
        return None if found.get("Running") or code is None else int(code)

    async def close(self) -> None:
        with contextlib.suppress(AssertionError, aiohttp.ClientError, OSError):  # it has ended
            await self._stream.close()
