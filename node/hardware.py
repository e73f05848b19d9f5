"""What this machine has: processors, memory, disk, GPUs; and how many slots of a class that makes.

What the kernel reports is narrowed by what this process may use (affinity, control groups): a node in a
container must not sell its host. NVML is asked only where its package is installed; a machine without it
has no GPUs to offer, which is a real class of machine and no failure.
"""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import psutil

from marketplace.domain.catalogue import HardwareClass
from marketplace.protocol.control import Hardware

GB: Final = 1_000_000_000
MB: Final = 1_000_000
RESERVED_RAM_BYTES: Final = 512 * 1024 * 1024  # chosen: for the system, the engine and this daemon
_MEMORY_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),  # control groups v2
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # v1
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU by its UUID; indexes differ between CUDA and CDI. vram_bytes: as the driver reports it."""

    uuid: str
    model: str
    vram_bytes: int


@dataclass(frozen=True, slots=True)
class MeasuredHardware:
    """vcpu: usable by this process. disk_bytes: free where disks are kept. notes: for the operator."""

    vcpu: int
    ram_bytes: int
    disk_bytes: int
    gpus: tuple[Gpu, ...]
    notes: tuple[str, ...]
    cuda_version: str | None = None

    def message(self) -> Hardware:
        """As the node tells the market."""
        return Hardware(
            vcpu=self.vcpu,
            ram_bytes=self.ram_bytes,
            disk_bytes=self.disk_bytes,
            gpus=tuple(gpu.model for gpu in self.gpus),
            cuda_version=self.cuda_version,
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """How many slots of a class a machine has. because: what is missing when it is none."""

    slots: int
    because: str


class Nvml(Protocol):
    """What is used of NVIDIA's library (package nvidia-ml-py, module pynvml)."""

    def nvmlInit(self) -> None: ...  # noqa: N802 - the library's names
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: Any) -> str: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802
    def nvmlSystemGetCudaDriverVersion(self) -> int: ...  # noqa: N802

    @property
    def NVMLError(self) -> type[Exception]: ...  # noqa: N802


def measure(folder: Path) -> MeasuredHardware:
    """Ask the machine. folder: where disks of containers will be kept; it must exist."""
    nvml = find_nvml()
    notes: tuple[str, ...] = ("nvidia-ml-py isn't installed: GPUs, if there are any, aren't offered.",)
    gpus: tuple[Gpu, ...] = ()
    cuda_version: str | None = None
    if nvml is not None:
        gpus, notes = list_gpus(nvml)
        cuda_version = find_cuda_version(nvml) if gpus else None
    return MeasuredHardware(
        vcpu=len(os.sched_getaffinity(0)),
        ram_bytes=min(psutil.virtual_memory().total, *memory_limits()),
        disk_bytes=psutil.disk_usage(str(folder)).free,
        gpus=gpus,
        notes=notes,
        cuda_version=cuda_version,
    )


def fit(machine: MeasuredHardware, wanted: HardwareClass) -> Fit:
    """Whole slots of a CPU class. GPU classes need a proof inside the container, which this release doesn't do."""
    if wanted.gpu:
        return Fit(0, f"{wanted.id} is a GPU class; this release offers CPU classes only")
    ram_bytes = max(0, machine.ram_bytes - RESERVED_RAM_BYTES)
    by_vcpu, by_ram = machine.vcpu // wanted.vcpu, ram_bytes // (wanted.ram_gb * GB)
    slots = min(by_vcpu, by_ram)
    if slots > 0:
        return Fit(slots, "")
    if by_vcpu == 0:
        return Fit(0, f"{wanted.id} needs {wanted.vcpu} vCPU, this machine has {machine.vcpu}")
    return Fit(0, f"{wanted.id} needs {wanted.ram_gb} GB of memory, {ram_bytes / GB:.1f} GB are free to offer")


def find_nvml() -> Nvml | None:
    """The library's module, None where it isn't installed."""
    try:
        module: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    found: Nvml = module
    return found


def list_gpus(nvml: Nvml) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """All GPUs that the driver shows, and what an operator should know when it shows none."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), (f"The NVIDIA driver doesn't answer: {error}.",)
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        gpus = tuple(
            Gpu(
                nvml.nvmlDeviceGetUUID(handle),
                nvml.nvmlDeviceGetName(handle),
                int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            )
            for handle in handles
        )
    except nvml.NVMLError as error:
        return (), (f"The NVIDIA driver failed while it was asked: {error}.",)
    finally:
        nvml.nvmlShutdown()
    return gpus, ()


def find_cuda_version(nvml: Nvml) -> str | None:
    """The highest CUDA version that the driver serves, `major.minor`; None when it doesn't say."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        number = nvml.nvmlSystemGetCudaDriverVersion()
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()
    return f"{number // 1000}.{number % 1000 // 10}"


def memory_limits(files: tuple[Path, ...] = _MEMORY_LIMITS) -> tuple[int, ...]:
    """Limits that control groups put on this process; "max" and absent ones don't count."""
    limits = []
    for file in files:
        try:
            text = file.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return tuple(limits)
