"""What a job leaves in /outputs, as node and market speak of it: which paths there are, and the manifest of all.

manifest digest = sha256 over a line for each file, sorted by path: `<sha256> <size> <path>` and a newline, UTF-8.
A voucher's digest = sha256(log digest + manifest digest); without files the manifest is empty (digests.py).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from marketplace.protocol.digests import EMPTY_MANIFEST

MAX_FILES: Final = 10_000
MAX_BYTES: Final = 20 << 30
"""Of one attempt. Chosen: several times the default disk; what is larger belongs into a bucket of the renter's."""
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255
MAX_DEPTH: Final = 32
"""Chosen: what file systems, archives and S3 keys all take."""
RESULT_NAMES: Final = ("result.json", "result.txt", "result.bin")
"""Files that become the job's result, in this order. Specified: api.md section 5.2."""
LEASE_HEADER: Final = "X-Lease-Token"
"""Names the holder where a transfer's body isn't a message."""


@dataclass(frozen=True, slots=True, order=True)
class OutputFile:
    """One file. sha256: hex digits."""

    path: str
    size: int
    sha256: str


def is_output_path(path: str) -> bool:
    """Whether a path below /outputs may be sent: plain names, none of which leads up, away or into a terminal."""
    if not path or len(path.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        return False
    names = path.split("/")
    return len(names) <= MAX_DEPTH and all(_is_name(name) for name in names)


def _is_name(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # a name that isn't UTF-8 on the disk
        return False
    return 0 < size <= MAX_NAME_BYTES and name not in (".", "..") and "\\" not in name and name.isprintable()


def manifest_digest(files: Iterable[OutputFile]) -> bytes:
    """32 bytes that stand for all files, or nothing where there are none."""
    lines = [f"{file.sha256} {file.size} {file.path}\n" for file in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).digest() if lines else EMPTY_MANIFEST
