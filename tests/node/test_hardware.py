import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from marketplace.domain.catalogue import CLASSES
from node.hardware import (
    GB,
    RESERVED_RAM_BYTES,
    Gpu,
    MeasuredHardware,
    find_cuda_version,
    find_nvml,
    fit,
    list_gpus,
    measure,
    memory_limits,
)

CPU_SMALL = next(c for c in CLASSES if c.id == "cpu-small")
H100 = next(c for c in CLASSES if c.id == "h100")
MACHINE = MeasuredHardware(vcpu=2, ram_bytes=24 * GB, disk_bytes=10 * GB, gpus=(), notes=())


def test_this_machine_is_measured(tmp_path: Path) -> None:
    found = measure(tmp_path)
    assert 1 <= found.vcpu <= (psutil.cpu_count() or 1)
    assert 0 < found.ram_bytes <= psutil.virtual_memory().total
    assert 0 < found.disk_bytes <= psutil.disk_usage(str(tmp_path)).total
    message = found.message()
    assert (message.vcpu, message.ram_bytes, message.disk_bytes) == (found.vcpu, found.ram_bytes, found.disk_bytes)


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is not None, reason="NVML is installed here")
def test_a_machine_without_nvml_has_no_gpus_and_says_why(tmp_path: Path) -> None:
    assert find_nvml() is None
    found = measure(tmp_path)
    assert found.gpus == ()
    assert any("nvidia-ml-py" in note for note in found.notes)


@pytest.mark.parametrize(
    ("vcpu", "ram_bytes", "slots", "because"),
    [
        (2, 24 * GB, 2, ""),
        (8, 2 * GB + RESERVED_RAM_BYTES, 1, ""),
        (8, 2 * GB + RESERVED_RAM_BYTES - 1, 0, "memory"),
        (8, 6 * GB + RESERVED_RAM_BYTES, 3, ""),
        (0, 24 * GB, 0, "vCPU"),
    ],
)
def test_slots_of_cpu_small(vcpu: int, ram_bytes: int, slots: int, because: str) -> None:
    found = fit(replace(MACHINE, vcpu=vcpu, ram_bytes=ram_bytes), CPU_SMALL)
    assert found.slots == slots
    assert because in found.because
    assert bool(found.because) == (slots == 0)


def test_gpu_classes_are_refused_by_name() -> None:
    found = fit(replace(MACHINE, vcpu=64, gpus=(Gpu("GPU-1", "NVIDIA H100", 80 * GB),)), H100)
    assert found.slots == 0
    assert "h100" in found.because


def test_limits_of_control_groups_count(tmp_path: Path) -> None:
    for name, text in (("max", "max\n"), ("number", "1234\n"), ("empty", "")):
        (tmp_path / name).write_text(text)
    files = tuple(tmp_path / name for name in ("absent", "max", "number", "empty"))
    assert memory_limits(files) == (1234,)


class ScriptedError(Exception):
    """What a driver raises."""


@dataclass
class Memory:
    total: int


class ScriptedNvml:
    """Two GPUs, or a driver that fails at a given call."""

    NVMLError = ScriptedError

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.open = 0

    def _call(self, name: str) -> None:
        if name == self.fails_at:
            raise ScriptedError("Driver Not Loaded")

    def nvmlInit(self) -> None:  # noqa: N802
        self._call("init")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._call("count")
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return "NVIDIA L4"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Memory:  # noqa: N802
        return Memory(24 * GB)

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        self._call("cuda")
        return 12_040


def test_gpus_are_listed_by_uuid_and_the_library_is_closed() -> None:
    nvml = ScriptedNvml()
    assert list_gpus(nvml) == ((Gpu("GPU-0", "NVIDIA L4", 24 * GB), Gpu("GPU-1", "NVIDIA L4", 24 * GB)), ())
    assert nvml.open == 0


@pytest.mark.parametrize(("fails_at", "version"), [(None, "12.4"), ("cuda", None), ("init", None)])
def test_the_driver_says_which_cuda_it_serves(fails_at: str | None, version: str | None) -> None:
    nvml = ScriptedNvml(fails_at=fails_at)
    assert find_cuda_version(nvml) == version
    assert nvml.open == 0


@pytest.mark.parametrize("call", ["init", "count"])
def test_a_driver_that_fails_gives_no_gpus_and_its_own_words(call: str) -> None:
    nvml = ScriptedNvml(fails_at=call)
    gpus, notes = list_gpus(nvml)
    assert gpus == ()
    assert "Driver Not Loaded" in notes[0]
    assert nvml.open == 0
