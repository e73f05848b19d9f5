"""Reads the tensors of a `pytorch_model.bin` without PyTorch, and runs nothing that the file says.

Such a file is a zip: a pickle that names tensors, and a file of raw numbers for each storage. Unpickling can call
whatever a pickle names; here it finds the handful of names that tensors need, which are functions of ours.
Source: the format that torch.save writes since 1.6, as its documentation of serialization describes it.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from marketplace.runners.safetensors import BROKEN_ARCHIVE, Tensors, WeightsUnreadable, from_bfloat16

_STORAGES: Final = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": ""}
_OTHER_STORAGES: Final = {"LongStorage", "IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage"}


def read_pytorch(file: Path) -> Tensors:
    """All floating-point tensors by name, as float32. Raises WeightsUnreadable."""
    try:
        with zipfile.ZipFile(file) as archive:
            (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            found = _Reader(archive, pickled.removesuffix("data.pkl")).load()
    except (*BROKEN_ARCHIVE, pickle.UnpicklingError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsUnreadable(f"no file of PyTorch weights: {error}") from error
    if not isinstance(found, dict):
        raise WeightsUnreadable("the file holds something else than named tensors")
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, np.ndarray)}


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(folder + "data.pkl")))
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and (name in _STORAGES or name in _OTHER_STORAGES):
            return name
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no weights need")

    def persistent_load(self, pid: Any) -> npt.NDArray[np.float32] | None:
        """The numbers of a storage; None for those that are no fractions."""
        kind, storage, key, _, count = pid
        if kind != "storage":
            raise pickle.UnpicklingError("it refers to something else than numbers")
        if storage in _OTHER_STORAGES:
            return None
        raw = self._archive.read(f"{self._folder}data/{key}")
        if not _STORAGES[storage]:
            return from_bfloat16(raw, count)
        return np.frombuffer(raw, dtype=_STORAGES[storage]).astype(np.float32, copy=False)


def _tensor(
    storage: npt.NDArray[np.float32] | None, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> npt.NDArray[np.float32] | None:
    if storage is None:
        return None
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min((offset, last, *size, *stride), default=0) < 0 or last >= storage.size:
        raise pickle.UnpicklingError("a tensor reaches beyond its numbers")
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False).copy()
