"""Files that are fetched: each appears under its name when it is whole, and never in part."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def arriving(to: Path) -> Iterator[BinaryIO]:
    """What is written becomes `to` when the block ends, and nothing where it raises. Raises OSError.

    Until then its name is like no other's: the longest has no room for a suffix, and a job may have left any.
    """
    partial = to.with_name(f".{secrets.token_hex(16)}.part")
    try:
        with partial.open("xb") as stream:
            yield stream
        partial.replace(to)
    finally:
        partial.unlink(missing_ok=True)
