"""A real reaver-localnet process, and a raw JSON-RPC client for it."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp

FAST = "slot_ms = 50\nfinality_slots = 4\n"


class Localnet:
    """Started by `start`, ended by `kill` (SIGKILL) or `stop` (SIGTERM); may be started again on the same folder."""

    def __init__(self, folder: Path, chain: str = FAST) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "localnet.toml"
        self.config.write_text(f'[chain]\ndata = "data"\n{chain}')
        self.ready: dict[str, Any] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str, crash_at: str | None = None) -> "Localnet":
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        if crash_at is not None:
            environment["REAVER_CRASH_AT"] = crash_at
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "marketplace.localnet", "start", "--config", str(self.config), "--rpc-port", "0", "--json"),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 30)
        self.ready = json.loads(line)
        return self

    @property
    def rpc(self) -> str:
        return str(self.ready["rpc"])

    @property
    def ws(self) -> str:
        return str(self.ready["ws"])

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        return await self._end(signal.SIGTERM)

    async def ended(self) -> int:
        """The exit status, once the process is gone by itself."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 30)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.ended()


class Rpc:
    """Raw calls; `error` and `result` say which of the two is expected."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def raw(self, body: bytes) -> Any:
        async with self._session.post(self.url, data=body, headers={"Content-Type": "application/json"}) as response:
            text = await response.read()
            return json.loads(text) if text else None

    async def answer(self, method: str, *params: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        return await self.raw(json.dumps(request).encode())

    async def result(self, method: str, *params: Any) -> Any:
        answer = await self.answer(method, *params)
        assert "error" not in answer, answer
        return answer["result"]

    async def error(self, method: str, *params: Any) -> dict[str, Any]:
        answer = await self.answer(method, *params)
        assert "result" not in answer, answer
        return answer["error"]

    async def value(self, method: str, *params: Any) -> Any:
        return (await self.result(method, *params))["value"]

    async def until(self, commitment: str, signature: str) -> dict[str, Any]:
        """The status, once it has reached the commitment."""
        order = ["processed", "confirmed", "finalized"]
        async with asyncio.timeout(30):
            while True:
                (status,) = await self.value("getSignatureStatuses", [signature])
                if status is not None and order.index(status["confirmationStatus"]) >= order.index(commitment):
                    return status
                await asyncio.sleep(0.01)

    async def until_slot(self, slot: int) -> None:
        async with asyncio.timeout(30):
            while await self.result("getSlot", {"commitment": "processed"}) < slot:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
