"""Files of an attempt on their way: what it reads, before its start; what it leaves, after its end.

    market or URL ─► inputs/part ─► (digest agrees) ─► inputs/name
    outputs/… ─► PUT, each file whole ─► market says the digest of what it has ─► (agrees) ─► in the manifest

Every step may be done again: a file that the market has already, with the same digest, isn't sent twice. A market that
is silent is asked again for ever; the attempt's own limits end that.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import structlog

from marketplace.outgoing import DestinationRefused, Outgoing
from marketplace.protocol.checkpoints import MalformedCheckpoint
from marketplace.protocol.outputs import LEASE_HEADER, MAX_BYTES, MAX_FILES, OutputFile, is_output_path
from marketplace.protocol.terms import JobInput
from node.checkpoints import CheckpointChanged, TooMuch, pack, unpack
from node.collecting import CHUNK_BYTES, FoundFile, digest_file, find_files, open_file
from node.errors import InputUnavailable, MarketRefused, MarketUnavailable
from node.market import MarketHttp
from node.runtime.port import AttemptKey

MAX_INPUT_BYTES: Final = 5 << 30
"""Specified: api.md section 5.2."""
_AT_ONCE: Final = 4
# Chosen: many small files are slow one by one; more at once only take turns on the same line.
_RETRY_S: Final = 1.0
_URL_TRIES: Final = 3
_URL_HOPS: Final = 5
_URL_SILENCE_S: Final = 30.0
_BUSY: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
_PART: Final = ".part"
_ARTIFACT_PART: Final = ".artifact.part"

_log = structlog.get_logger("node.transfers")
_T = TypeVar("_T")


class OutputTooLarge(Exception):
    """The outputs are more than may be delivered; caught by the attempt."""


class OutputRefused(Exception):
    """The market does not take the outputs, and will not; caught by the attempt."""


class LeaseLost(Exception):
    """The attempt is not ours any more; caught by the attempt."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose files they are, and the proof that they are ours to move."""

    key: AttemptKey
    lease_token: str


class Transfers(Protocol):
    """Moves files. The real one is `HttpTransfers`."""

    async def fetch(self, holder: Holder, wanted: JobInput, folder: Path) -> str:
        """Put the input into the folder; its name. Raises InputUnavailable."""
        ...

    async def deliver(self, holder: Holder, folder: Path) -> tuple[OutputFile, ...]:
        """Send every file of the folder; what was sent, by path.

        Raises OutputTooLarge, OutputRefused, LeaseLost.
        """
        ...

    async def fetch_artifacts(self, holder: Holder, folder: Path) -> None:
        """Put what earlier jobs left into the folder. Raises InputUnavailable, OutputRefused, LeaseLost."""
        ...

    async def save_checkpoint(self, holder: Holder, folder: Path) -> None:
        """Send the folder as the attempt's latest checkpoint; the one before it stays until this one is whole.

        Raises CheckpointChanged, TooMuch, OutputRefused, LeaseLost.
        """
        ...

    async def restore_checkpoint(self, holder: Holder, folder: Path, *, on_bytes: Callable[[], None]) -> bool:
        """Make the folder what the job's latest checkpoint says; False where there is none. on_bytes: more arrived.

        Raises InputUnavailable, OutputRefused, LeaseLost.
        """
        ...

    async def hand_over(self, holder: Holder) -> None:
        """Say that everything is sent; returns when it is where it belongs. Raises OutputRefused, LeaseLost."""
        ...


class HttpTransfers:
    """Over the market's HTTP, and guarded HTTP for what lies elsewhere."""

    def __init__(self, http: MarketHttp, node_id: str, outgoing: Outgoing) -> None:
        self._http = http
        self._node_id = node_id
        self._outgoing = outgoing

    async def fetch(self, holder: Holder, wanted: JobInput, folder: Path) -> str:
        name = wanted.name
        if name is not None and (folder / name).exists():
            return name  # a file that carries its name is whole
        if wanted.kind == "url":
            return await fetch_url(self._outgoing, wanted, folder)
        return await _until_answered(lambda: self._fetch_from_market(holder, wanted, folder), "input", holder)

    async def deliver(self, holder: Holder, folder: Path) -> tuple[OutputFile, ...]:
        found = await asyncio.to_thread(find_files, folder, most=MAX_FILES)
        if len(found) > MAX_FILES:
            raise OutputTooLarge(f"/outputs holds more than {MAX_FILES} files")
        total = sum(file.size for file in found)
        if total > MAX_BYTES:
            raise OutputTooLarge(f"/outputs holds {total} bytes, more than {MAX_BYTES}")
        if not found:
            return ()
        held = await _until_answered(lambda: self._held(holder), "outputs", holder)
        turn = asyncio.Semaphore(_AT_ONCE)
        sent: list[OutputFile] = []

        async def send(file: FoundFile) -> None:
            async with turn:
                have = held.get(file.path)
                if have is None or have.size != file.size or await _differs(folder, have):
                    have = await _until_answered(lambda: self._put(holder, folder, file), "output", holder)
                sent.append(have)

        try:
            async with asyncio.TaskGroup() as group:
                for file in found:
                    group.create_task(send(file))
        except* (OutputTooLarge, OutputRefused, LeaseLost) as errors:
            raise errors.exceptions[0] from None
        return tuple(sorted(sent))

    async def fetch_artifacts(self, holder: Holder, folder: Path) -> None:
        listed = await _until_answered(lambda: self._artifacts(holder), "artifacts", holder)
        if len(listed) > MAX_FILES or sum(file.size for file in listed) > MAX_BYTES:
            raise InputUnavailable("what the jobs before it left is more than a job may read")
        for file in listed:
            await _until_answered(lambda file=file: self._fetch_artifact(holder, file, folder), "artifact", holder)  # type: ignore[misc]

    async def save_checkpoint(self, holder: Holder, folder: Path) -> None:
        await _until_answered(lambda: self._save_checkpoint(holder, folder), "checkpoint", holder)

    async def restore_checkpoint(self, holder: Holder, folder: Path, *, on_bytes: Callable[[], None]) -> bool:
        return await _until_answered(lambda: self._restore_checkpoint(holder, folder, on_bytes), "checkpoint", holder)

    async def _artifacts(self, holder: Holder) -> list[OutputFile]:
        headers = {LEASE_HEADER: holder.lease_token}
        try:
            async with self._http.stream("GET", self._path(holder, "artifacts"), headers=headers) as response:
                listed = [_output(entry) for entry in (await response.json()).get("outputs", ())]
        except MarketRefused as refused:
            if refused.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise InputUnavailable(refused.message) from refused
            raise
        if not all(is_output_path(file.path) and "/" in file.path for file in listed):
            raise InputUnavailable("the market names a file that may not lie in /inputs")
        return listed

    async def _fetch_artifact(self, holder: Holder, file: OutputFile, folder: Path) -> None:
        *above, name = file.path.split("/")
        place = folder.joinpath(*above)
        if (place / name).exists():
            return  # a file that carries its name is whole
        with _written():
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        headers, path = {LEASE_HEADER: holder.lease_token}, f"artifacts/{quote(file.path, safe='/')}"
        try:
            async with self._http.stream("GET", self._path(holder, path), headers=headers) as response:
                pieces = response.content.iter_chunked(CHUNK_BYTES)
                await store_input(pieces, place, name, file.sha256, part=folder / _ARTIFACT_PART, most=MAX_BYTES)
        except MarketRefused as refused:
            if refused.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise InputUnavailable(refused.message) from refused
            raise

    async def _save_checkpoint(self, holder: Holder, folder: Path) -> None:
        found: list[Exception] = []

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in pack(folder):
                    yield piece
            except (CheckpointChanged, TooMuch, OSError) as error:
                found.append(error)  # the connection is broken off for it, and says only that
                raise

        headers = {LEASE_HEADER: holder.lease_token, "Content-Type": "application/octet-stream"}
        try:
            async with self._http.stream(
                "PUT", self._path(holder, "checkpoint"), headers=headers, body=pieces()
            ) as response:
                await response.read()
        except MarketUnavailable:
            if found:
                raise found[0] from None
            raise

    async def _restore_checkpoint(self, holder: Holder, folder: Path, on_bytes: Callable[[], None]) -> bool:
        headers, digest = {LEASE_HEADER: holder.lease_token}, hashlib.sha256()
        try:
            async with self._http.stream("GET", self._path(holder, "checkpoint"), headers=headers) as response:
                expected = response.headers.get("ETag", "").strip('"')

                async def pieces() -> AsyncIterator[bytes]:
                    async for piece in response.content.iter_chunked(CHUNK_BYTES):
                        on_bytes()
                        digest.update(piece)
                        yield piece

                with _written():
                    await unpack(pieces(), folder)
        except MarketRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        except MalformedCheckpoint as error:
            if digest.hexdigest() != expected:
                raise MarketUnavailable("the checkpoint that arrived is not the one announced") from error
            raise InputUnavailable(f"the job's checkpoint can't be read: {error}") from error
        if digest.hexdigest() != expected:
            raise MarketUnavailable("the checkpoint that arrived is not the one announced")
        return True

    async def hand_over(self, holder: Holder) -> None:
        while True:
            state, detail = await _until_answered(lambda: self._hand_over(holder), "delivery", holder)
            if state == "delivered":
                return
            if state == "failed":
                raise OutputRefused(detail)
            await asyncio.sleep(_RETRY_S)

    async def _hand_over(self, holder: Holder) -> tuple[str, str]:
        headers = {LEASE_HEADER: holder.lease_token}
        async with self._http.stream("POST", self._path(holder, "outputs"), headers=headers) as response:
            answer = await response.json()
        try:
            return str(answer["state"]), str(answer.get("detail") or "the outputs could not be delivered")
        except (KeyError, TypeError, AttributeError) as error:
            raise MarketUnavailable("the market does not say how the delivery is") from error

    def _path(self, holder: Holder, rest: str) -> str:
        node, key = quote(self._node_id, safe=""), holder.key
        return f"/v1/nodes/{node}/allocations/{quote(key.allocation, safe='')}/{rest}?attempt={key.attempt}"

    async def _fetch_from_market(self, holder: Holder, wanted: JobInput, folder: Path) -> str:
        headers = {LEASE_HEADER: holder.lease_token}
        try:
            async with self._http.stream("GET", self._path(holder, "input"), headers=headers) as response:
                said = response.content_disposition
                name = wanted.name or (said.filename if said is not None else None) or "input"
                expected = response.headers.get("ETag", "").strip('"')
                return await store_input(response.content.iter_chunked(CHUNK_BYTES), folder, name, expected)
        except MarketRefused as refused:
            if refused.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise InputUnavailable(refused.message) from refused
            raise

    async def _held(self, holder: Holder) -> dict[str, OutputFile]:
        headers = {LEASE_HEADER: holder.lease_token}
        async with self._http.stream("GET", self._path(holder, "outputs"), headers=headers) as response:
            held = [_output(entry) for entry in (await response.json()).get("outputs", ())]
        return {file.path: file for file in held}

    async def _put(self, holder: Holder, folder: Path, file: FoundFile) -> OutputFile:
        digest = hashlib.sha256()

        headers = {LEASE_HEADER: holder.lease_token, "Content-Type": "application/octet-stream"}
        path = self._path(holder, f"outputs/{quote(file.path, safe='/')}")
        # Opened in no thread: who is cancelled meanwhile would leave it open. Closed here and not in the iterator: a
        # market that answers early leaves that one unfinished.
        opened = open_file(folder, file.path)

        async def pieces() -> AsyncIterator[bytes]:
            while piece := await asyncio.to_thread(opened.read, CHUNK_BYTES):
                digest.update(piece)
                yield piece

        try:
            with opened:
                async with self._http.stream("PUT", path, headers=headers, body=pieces()) as response:
                    taken = _output(await response.json())
        except MarketRefused as refused:
            if refused.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise OutputTooLarge(refused.message) from refused
            raise
        if taken.path != file.path or taken.sha256 != digest.hexdigest():
            raise MarketUnavailable(f"the market took another {file.path} than was sent")
        return taken


async def fetch_url(outgoing: Outgoing, wanted: JobInput, folder: Path) -> str:
    """From where the renter says, a few times: what isn't there now may be there in a moment.

    The name of the file. Raises InputUnavailable.
    """
    url = wanted.url or ""
    name = wanted.name or url_name(url)
    for left in reversed(range(_URL_TRIES)):
        try:
            async with outgoing.request("GET", url, hops=_URL_HOPS, silence_s=_URL_SILENCE_S) as response:
                if response.status != HTTPStatus.OK:
                    raise InputUnavailable(f"the input's host answered {response.status}")  # noqa: TRY301
                return await store_input(response.content.iter_chunked(CHUNK_BYTES), folder, name, "")
        except DestinationRefused as refused:
            raise InputUnavailable(f"the input's URL: {refused}") from refused
        except InputUnavailable:
            if left == 0:
                raise
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            # Its text may hold the whole URL, and that a signature: it is nobody's but the renter's.
            if left == 0:
                raise InputUnavailable(_what_broke(error)) from error
        await asyncio.sleep(_RETRY_S)
    raise AssertionError("the last try answers or raises")


def _what_broke(error: Exception) -> str:
    """In the words of who gave the URL."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the input's host has no address; is its name right?"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the input's host shows no certificate of its name that can be trusted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "the input's host can't be reached"
    if isinstance(error, TimeoutError):
        return "the input's host fell silent"
    return "the input's host broke off in the middle"


def _output(entry: object) -> OutputFile:
    """What the market says of one file. Raises MarketUnavailable where it can't be read."""
    try:
        return OutputFile(str(entry["path"]), int(entry["size"]), str(entry["sha256"]))  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise MarketUnavailable("the market's list of outputs can't be read") from error


def url_name(url: str) -> str:
    """The file name that a URL ends in, `input` where it has none that may be one."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return name if name and "/" not in name and is_output_path(name) else "input"


async def store_input(
    pieces: AsyncIterator[bytes],
    folder: Path,
    name: str,
    sha256: str,
    *,
    part: Path | None = None,
    most: int = MAX_INPUT_BYTES,
) -> str:
    """Write a file under its name once it is whole. Raises InputUnavailable where it can't be.

    part: what it is called until then; in the same folder where left out.
    """
    part = part or folder / _PART
    if not is_output_path(name) or "/" in name or folder / name == part:
        raise InputUnavailable(f"{name!r} can't be the name of a file")
    digest, size = hashlib.sha256(), 0
    try:
        with _written(), part.open("wb") as file:
            async for piece in pieces:
                size += len(piece)
                if size > most:
                    raise InputUnavailable(f"the input is larger than {most >> 30} GiB")
                digest.update(piece)
                await asyncio.to_thread(file.write, piece)
        if sha256 and digest.hexdigest() != sha256:
            raise MarketUnavailable("the input that arrived is not the one announced")
        with _written():
            part.chmod(0o644)
            part.rename(folder / name)
    finally:
        part.unlink(missing_ok=True)
    return name


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """What the disk says is the job's limit; what the line says is not."""
    try:
        yield
    except OSError as error:
        if isinstance(error, aiohttp.ClientError | ConnectionError | TimeoutError):
            raise
        raise InputUnavailable(f"the input does not fit the job's disk: {error.strerror}") from error


async def _differs(folder: Path, have: OutputFile) -> bool:
    return await asyncio.to_thread(digest_file, folder, have.path) != have.sha256


async def _until_answered(call: Callable[[], Awaitable[_T]], what: str, holder: Holder) -> _T:
    """Ask until the market answers: its silence and its troubles pass, its refusals do not."""
    while True:
        try:
            return await call()
        except MarketUnavailable as error:
            reason = str(error)
        except MarketRefused as refused:
            if refused.code == "lease_lost":
                raise LeaseLost(refused.message) from refused
            # not_ready: our reports go another way than our files, and are behind them.
            passes = refused.status in _BUSY or refused.code == "not_ready"
            if refused.status < HTTPStatus.INTERNAL_SERVER_ERROR and not passes:
                raise OutputRefused(str(refused)) from refused
            reason = str(refused)
        _log.warning(
            "transfer is tried again", action="transfer_retry", what=what, error=reason, attempt=str(holder.key)
        )
        await asyncio.sleep(_RETRY_S)
