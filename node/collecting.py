"""Reads what a container left on its disk, without trusting a byte of it.

A stranger's program wrote these folders. No link is followed at any step of a path (each folder is opened from the one
above it), nothing but plain files is read, nothing that could block is opened to block, and names that no other
machine should have to hold are left out (protocol/outputs.py).
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from marketplace.protocol.outputs import MAX_DEPTH, is_output_path
from node.runtime.port import PROGRESS_NAME

CHUNK_BYTES: Final = 1 << 20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PROGRESS_BYTES: Final = 16
_MOST: Final = 100


@dataclass(frozen=True, slots=True, order=True)
class FoundFile:
    """A plain file. path: below the folder, its parts joined by slashes."""

    path: str
    size: int


def find_files(folder: Path, *, most: int) -> list[FoundFile]:
    """Plain files below a folder, by path, at most one more than `most`. Blocks: call it in a thread."""
    found: list[FoundFile] = []
    try:
        top = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return []
    try:
        for file in _walk(top, "", 1):
            found.append(file)
            if len(found) > most:
                break
    finally:
        os.close(top)
    return sorted(found)


def open_file(folder: Path, path: str) -> BinaryIO:
    """The file of a path that `find_files` gave. Raises OSError where it is not a plain file any more."""
    *folders, name = path.split("/")
    with ExitStack() as stack:
        here = os.open(folder, _FOLDER)
        stack.callback(os.close, here)
        for each in folders:
            here = os.open(each, _FOLDER, dir_fd=here)
            stack.callback(os.close, here)
        descriptor = os.open(name, _FILE, dir_fd=here)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a plain file")
    return os.fdopen(descriptor, "rb")


def digest_file(folder: Path, path: str) -> str:
    """SHA-256 in hex digits. Blocks: call it in a thread. Raises OSError."""
    digest = hashlib.sha256()
    with open_file(folder, path) as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_progress(notes: Path) -> int | None:
    """What a job says of itself, 0 to 100; None while it says nothing that is such a number."""
    try:
        with open_file(notes, PROGRESS_NAME) as file:
            text = file.read(_PROGRESS_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and text.isascii() and int(text) <= _MOST else None


def _walk(folder: int, above: str, depth: int) -> Iterator[FoundFile]:
    """Files of an open folder and of those in it. What changes or can't be opened meanwhile is left out."""
    # One by one: names cost a program next to nothing, and there may be more than memory has room for.
    with os.scandir(folder) as entries:
        for entry in entries:
            path = above + entry.name
            if not is_output_path(path):
                continue
            try:
                if entry.is_file(follow_symlinks=False):
                    yield FoundFile(path, entry.stat(follow_symlinks=False).st_size)
                elif entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                    inner = os.open(entry.name, _FOLDER, dir_fd=folder)
                    try:
                        yield from _walk(inner, f"{path}/", depth + 1)
                    finally:
                        os.close(inner)
            except OSError:
                continue
