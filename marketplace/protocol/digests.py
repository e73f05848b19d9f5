"""Running digest of a job's log lines, and the digest a voucher carries. Source: api.md section 5.5."""

import hashlib
import struct
from typing import Final

EMPTY_MANIFEST: Final = b""
"""Manifest of an attempt without outputs."""


class LogDigest:
    """SHA-256 over framed log lines, fed as they appear.

    A frame is stream (1 byte: 1 stdout, 2 stderr), length (u32, little endian), then the line's bytes, so that
    no two sequences of lines share a digest.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def feed(self, stream: int, line: bytes) -> None:
        """Add one line."""
        self._hash.update(struct.pack("<BI", stream, len(line)))
        self._hash.update(line)

    def value(self) -> bytes:
        """Digest so far, 32 bytes."""
        return self._hash.copy().digest()


def voucher_digest(log_digest: bytes, manifest: bytes = EMPTY_MANIFEST) -> bytes:
    """SHA-256(log digest + manifest of outputs), 32 bytes."""
    return hashlib.sha256(log_digest + manifest).digest()
