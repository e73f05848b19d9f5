"""Reads weights that lie in a file of the safetensors format: a length, a JSON header, and the numbers.

Source: the format's published description (8 bytes of little-endian header length, header, one flat buffer).
"""

import json
import lzma
import math
import zipfile
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Tensors = dict[str, npt.NDArray[np.float32]]
_MAX_HEADER: Final = 100_000_000
_FLOATS: Final = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


BROKEN_ARCHIVE: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What reading a stranger's zip can raise: damage, unknown methods, passwords."""


class WeightsUnreadable(Exception):
    """The weights are in no form that is read here."""


def read_safetensors(data: bytes) -> Tensors:
    """All floating-point tensors by name, as float32; others (ids, masks) are left out. Raises WeightsUnreadable."""
    try:
        length = int.from_bytes(data[:8], "little")
        if not 0 < length <= min(_MAX_HEADER, len(data) - 8):
            raise WeightsUnreadable("the header is longer than the file")
        header = json.loads(data[8 : 8 + length])
        body = memoryview(data)[8 + length :]
        found: Tensors = {}
        for name, entry in header.items():
            if name != "__metadata__" and (tensor := _tensor(entry, body)) is not None:
                found[name] = tensor
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsUnreadable(f"no safetensors file: {error}") from error
    return found


def _tensor(entry: dict[str, Any], body: memoryview) -> npt.NDArray[np.float32] | None:
    kind, shape = entry["dtype"], tuple(int(size) for size in entry["shape"])
    start, end = entry["data_offsets"]
    count = math.prod(shape)
    if kind == "BF16":
        return from_bfloat16(body[start:end], count).reshape(shape)
    if kind not in _FLOATS:
        return None
    flat = np.frombuffer(body[start:end], dtype=_FLOATS[kind])
    return flat.astype(np.float32, copy=False).reshape(shape)


def from_bfloat16(raw: memoryview | bytes, count: int) -> npt.NDArray[np.float32]:
    """bfloat16 is the upper half of a float32. Raises WeightsUnreadable."""
    halves = np.frombuffer(raw, dtype="<u2")
    if halves.size != count:
        raise WeightsUnreadable("a tensor has other numbers than its shape says")
    return (halves.astype(np.uint32) << 16).view(np.float32)
