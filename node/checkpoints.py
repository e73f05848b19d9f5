"""What lies in a job's /checkpoint: packed while the job runs, unpacked before the next attempt of it starts.

A stranger's program writes the folder, and a strange node may have written the stream: no link is followed on either
way, each folder is opened from the one above it, and links are made last, when nothing is written any more.
A file that changes while it is read makes the whole checkpoint none: the one before it stays.
"""

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from marketplace.protocol.checkpoints import (
    MAX_ENTRIES,
    Entry,
    EntryKind,
    MalformedCheckpoint,
    closing,
    header,
    opening,
    read_checkpoint,
)
from marketplace.protocol.outputs import MAX_DEPTH, is_output_path

_CHUNK_BYTES: Final = 1 << 20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o777


class CheckpointChanged(Exception):
    """The job wrote into it meanwhile; another look may find it at rest."""


class TooMuch(Exception):
    """There is more in it than may travel."""


async def pack(folder: Path) -> AsyncIterator[bytes]:
    """The folder as a checkpoint. Raises CheckpointChanged, TooMuch."""
    top = os.open(folder, _FOLDER)  # in no thread: who is cancelled meanwhile would leave it open
    try:
        entries = await asyncio.to_thread(lambda: list(islice(_walk(top, "", 1), MAX_ENTRIES + 1)))
        if len(entries) > MAX_ENTRIES:
            raise TooMuch(f"/checkpoint holds more than {MAX_ENTRIES} files and folders")
        yield opening()
        for entry, seen in entries:
            try:
                head = header(entry)
            except MalformedCheckpoint as error:
                raise TooMuch(str(error)) from error
            yield head
            if entry.kind is EntryKind.FILE:
                async for piece in _content(top, entry, seen):
                    yield piece
        yield closing(len(entries))
    finally:
        os.close(top)


async def unpack(chunks: AsyncIterable[bytes], folder: Path) -> None:
    """Make the folder what the checkpoint says; what was in it goes. Raises MalformedCheckpoint, OSError (no room)."""
    await asyncio.to_thread(empty, folder)
    unpacking = _Unpacking(folder)
    try:
        async for part in read_checkpoint(chunks):
            await asyncio.to_thread(unpacking.take, part)
        await asyncio.to_thread(unpacking.finish)
    except FileNotFoundError as error:
        raise MalformedCheckpoint("a file comes before its folder") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise MalformedCheckpoint("two entries are in each other's place") from error
    finally:
        unpacking.close()


class _Unpacking:
    """A folder that is being filled; it was empty. Everything blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._entry: Entry | None = None
        self._links: list[Entry] = []
        self._folders: list[Entry] = []

    def take(self, part: Entry | bytes) -> None:
        """The next part of the stream; a file's bytes follow it, and no others."""
        if isinstance(part, bytes):
            if self._file is None:
                raise MalformedCheckpoint("bytes of no file")
            _write(self._file, part)
            return
        self._end_file()
        if part.kind is EntryKind.FOLDER:
            self._path(part).mkdir()
            self._folders.append(part)
        elif part.kind is EntryKind.FILE:
            self._file, self._entry = os.open(self._path(part), _NEW, 0o600), part
        else:
            self._links.append(part)

    def finish(self) -> None:
        """What has to wait until everything is written: links, and what folders forbid."""
        self._end_file()
        top = os.open(self._folder, _FOLDER)
        try:
            for entry in self._links:
                _link(top, entry)
        finally:
            os.close(top)
        for entry in reversed(self._folders):
            _own(self._path(entry), entry)

    def close(self) -> None:
        """Let go of what is open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _end_file(self) -> None:
        if self._file is not None and self._entry is not None:
            _own(self._file, self._entry)
        self.close()

    def _path(self, entry: Entry) -> Path:
        """Of a file or folder: nothing was here before and links come at the end, so no part of it leads elsewhere."""
        return self._folder.joinpath(*entry.path.split("/"))


def empty(folder: Path) -> None:
    """Nothing is in it any more; itself stays. Blocks: call it in a thread."""
    with os.scandir(folder) as entries:
        for found in list(entries):
            if found.is_dir(follow_symlinks=False):
                shutil.rmtree(found.path)
            else:
                Path(found.path).unlink()


def is_empty(folder: Path) -> bool:
    """Whether there is nothing in it that would travel. Blocks: call it in a thread."""
    try:
        top = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return True
    try:
        return next(_walk(top, "", 1), None) is None
    finally:
        os.close(top)


def _walk(folder: int, above: str, depth: int) -> Iterator[tuple[Entry, os.stat_result]]:
    """Entries of an open folder and of those in it, each folder before what is in it. What vanishes is left out."""
    with os.scandir(folder) as entries:
        # Names cost a job next to nothing: of more than may travel no more are held than show it.
        listed = sorted(islice(entries, MAX_ENTRIES + 1), key=lambda entry: entry.name)
    for found in listed:
        path = above + found.name
        if not is_output_path(path):
            continue
        try:
            seen = found.stat(follow_symlinks=False)
            mode, who = stat.S_IMODE(seen.st_mode) & _MODE, (seen.st_uid, seen.st_gid)
            if stat.S_ISREG(seen.st_mode):
                yield Entry(EntryKind.FILE, path, mode, *who, size=seen.st_size), seen
            elif stat.S_ISLNK(seen.st_mode):
                target = os.readlink(found.name, dir_fd=folder)
                yield Entry(EntryKind.LINK, path, 0, *who, to=target), seen
            elif stat.S_ISDIR(seen.st_mode) and depth < MAX_DEPTH:
                yield Entry(EntryKind.FOLDER, path, mode, *who), seen
                inner = os.open(found.name, _FOLDER, dir_fd=folder)
                try:
                    yield from _walk(inner, f"{path}/", depth + 1)
                finally:
                    os.close(inner)
        except FileNotFoundError:
            continue


async def _content(top: int, entry: Entry, seen: os.stat_result) -> AsyncIterator[bytes]:
    """Exactly the file that was seen. Raises CheckpointChanged."""
    try:
        descriptor = _open(top, entry.path)
    except OSError as error:
        raise CheckpointChanged(entry.path) from error
    # A file object: a number closed under a thread that is about to read it may be another file's by then.
    with os.fdopen(descriptor, "rb") as file:
        left = entry.size
        while left:
            piece = await asyncio.to_thread(file.read, min(left, _CHUNK_BYTES))
            if not piece:
                raise CheckpointChanged(entry.path)
            left -= len(piece)
            yield piece
        now = os.fstat(descriptor)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (seen.st_ino, seen.st_size, seen.st_mtime_ns):
            raise CheckpointChanged(entry.path)


def _link(top: int, entry: Entry) -> None:
    """A link that was made before it may stand in its path: none is followed. Raises NotADirectoryError then."""
    with _above(top, entry.path) as (here, name):
        os.symlink(entry.to, name, dir_fd=here)
        with contextlib.suppress(PermissionError):
            os.chown(name, entry.owner, entry.group, dir_fd=here, follow_symlinks=False)


@contextlib.contextmanager
def _above(top: int, path: str) -> Iterator[tuple[int, str]]:
    """The open folder that a path below `top` ends in, reached by no link, and the name there. Raises OSError."""
    *folders, name = path.split("/")
    with contextlib.ExitStack() as stack:
        here = top
        for each in folders:
            here = os.open(each, _FOLDER, dir_fd=here)
            stack.callback(os.close, here)
        yield here, name


def _open(top: int, path: str) -> int:
    with _above(top, path) as (here, name):
        descriptor = os.open(name, _FILE, dir_fd=here)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _own(what: int | Path, entry: Entry) -> None:
    # Only root may give away a file; without root nothing is isolated anyway.
    with contextlib.suppress(PermissionError):
        os.chown(what, entry.owner, entry.group)
    os.chmod(what, entry.mode)  # noqa: PTH101 - a descriptor, too
