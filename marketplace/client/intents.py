"""Idempotency-Keys of spending calls, kept on disk until the market has answered.

A command that was interrupted (a broken connection, a killed process, a signature that never got through) and is
given again takes up the same key, so that the market and the chain recognise it: it can't pay twice. A command
given again after its answer is a new one. Two processes that run the same command at the same time mean two jobs:
each holds a lock on its own file, and a locked file is never taken over.
"""

import hashlib
import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from marketplace.client.private_files import PRIVATE_FILE, make_private_folder, take_lock
from marketplace.protocol.terms import canonical_json

KEPT_S: Final = 24 * 3600
"""An unanswered intent is taken up for as long as the market keeps answers to keys; api.md section 1.2."""
_MAX_PARALLEL: Final = 10_000
_MAX_FILE_BYTES: Final = 4 << 20


class Intent:
    """One spending call with its key. A context manager: leaving it without `answered` keeps the key for later.

    resumed: an earlier run of the same call was not answered, and its key is used again.
    memo: what that run wrote down about what it sent, None when it did not get so far.
    """

    def __init__(self, stored: "_Stored", *, resumed: bool, file: "_File | None") -> None:
        self.key = stored.key
        self.resumed = resumed
        self._stored = stored
        self._file = file

    @classmethod
    def unsaved(cls, now_s: int) -> Self:
        """A new intent that lives in this process only: after a crash nobody remembers its key."""
        return cls(_Stored.new(now_s), resumed=False, file=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def memo(self) -> str | None:
        """Text kept beside the key."""
        return self._stored.memo

    def remember(self, memo: str) -> None:
        """Keep what is about to be sent under this key, durably."""
        self._stored = replace(self._stored, memo=memo)
        if self._file is not None:
            _write(self._file.descriptor, self._stored)

    def answered(self) -> None:
        """The call has its final answer: the next one like it is a new intent."""
        if self._file is not None:
            with suppress(FileNotFoundError):
                self._file.path.unlink()
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file.descriptor)
            self._file = None


class IntentStore:
    """Open intents of this user, a small file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, *, api_url: str, wallet: str, route: str, body: object, now_s: int) -> Intent:
        """The unanswered intent of the same call, or a new one.

        route, body: what the key binds to. now_s: Unix seconds, decides whether an old intent is still good.
        """
        make_private_folder(self._folder)
        self._forget_old(now_s)
        call = hashlib.sha256(canonical_json([api_url, wallet, route, body])).hexdigest()[:40]
        for number in range(_MAX_PARALLEL):
            path = self._folder / f"intent-{call}-{number}.json"
            intent = self._take(path, now_s)
            if intent is not None:
                return intent
        raise RuntimeError(f"{_MAX_PARALLEL} processes run the same command at once")

    def _forget_old(self, now_s: int) -> None:
        """Delete files of intents too old to be taken up, so that they don't pile up; a locked one is in use."""
        for path in self._folder.glob("intent-*.json"):
            with suppress(FileNotFoundError):
                if now_s - path.stat().st_mtime <= KEPT_S:
                    continue
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if take_lock(descriptor) and _same_file(path, descriptor):
                        path.unlink()
                finally:
                    os.close(descriptor)

    def _take(self, path: Path, now_s: int) -> Intent | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        # Between opening and locking, the holder may have been answered and have deleted the file.
        if not take_lock(descriptor) or not _same_file(path, descriptor):
            os.close(descriptor)
            return None
        stored = _read(descriptor, now_s)
        resumed = stored is not None
        if stored is None:
            stored = _Stored.new(now_s)
            _write(descriptor, stored)
        return Intent(stored, resumed=resumed, file=_File(path, descriptor))


@dataclass(frozen=True, slots=True)
class _Stored:
    key: str
    created_at_s: int
    memo: str | None

    @classmethod
    def new(cls, now_s: int) -> Self:
        return cls(key=f"cli-{secrets.token_urlsafe(24)}", created_at_s=now_s, memo=None)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    descriptor: int


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


def _read(descriptor: int, now_s: int) -> _Stored | None:
    try:
        found = json.loads(os.pread(descriptor, _MAX_FILE_BYTES, 0))
        stored = _Stored(key=str(found["key"]), created_at_s=int(found["created_at_s"]), memo=found["memo"])
    except (ValueError, TypeError, KeyError):
        return None
    return stored if now_s - stored.created_at_s <= KEPT_S else None


def _write(descriptor: int, stored: _Stored) -> None:
    content = json.dumps(asdict(stored)).encode()
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
    # On disk before the market hears of it: a key that was sent and forgotten could pay twice.
    os.fsync(descriptor)
