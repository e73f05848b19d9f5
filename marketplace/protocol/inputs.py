"""What `input` of a job body means: text, JSON, an upload, or a URL. Source: api.md section 5.2.

Market and client read it by the same rules, because the digest of a text is part of what the wallet agrees to.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from marketplace.domain.ids import is_id
from marketplace.protocol.terms import JobInput, canonical_json

MAX_INLINE_BYTES: Final = 1 << 20
"""Specified: api.md section 5.2."""
_URL: Final = re.compile(r"https://\S+|http://(?:localhost|127\.0\.0\.1|\[::1\])[:/]\S*")
"""By http this machine only, which markets refuse that are not for development."""


@dataclass(frozen=True, slots=True)
class ReadInput:
    """job_input: as the spec carries it. content: of a text or JSON, None of what lies elsewhere."""

    job_input: JobInput
    content: bytes | None


def read_input(value: object) -> ReadInput | None:
    """The input of a body, None where there is none. Raises ValueError for what JSON can't say."""
    if value is None:
        return None
    if isinstance(value, str):
        if is_id("file", value):
            return ReadInput(JobInput(kind="file", file_id=value), None)
        if _URL.fullmatch(value):
            return ReadInput(JobInput(kind="url", url=value), None)
        return _inline("text", "input.txt", value.encode())
    if isinstance(value, dict) and value.keys() == {"text"} and isinstance(value["text"], str):
        return _inline("text", "input.txt", value["text"].encode())
    return _inline("json", "input.json", canonical_json(value))


def _inline(kind: str, name: str, content: bytes) -> ReadInput:
    digest = hashlib.sha256(content).hexdigest()
    described = {"kind": kind, "name": name, "size": len(content), "sha256": digest}
    return ReadInput(JobInput.model_validate(described), content)
