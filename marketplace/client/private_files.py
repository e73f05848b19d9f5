"""Files that only their owner may read, replaced in one step so that a crash leaves the old or the new one whole."""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Final

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700


def make_private_folder(folder: Path) -> None:
    """The folder exists and, where we made it, is closed to others."""
    folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)


def write_private(path: Path, content: bytes) -> None:
    """Replace the file by `content`, mode 0600, durable before the old one is gone."""
    make_private_folder(path.parent)
    # mkstemp creates with 0600: the secret is never readable by others, not even for a moment.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def take_lock(descriptor: int) -> bool:
    """Lock an open file, unless somebody has it; whether it is ours now. Closing it gives it back."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
