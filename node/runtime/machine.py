"""Finds out, by trying, what the sandbox can hold on this machine."""

import re
from dataclasses import dataclass
from typing import Any

from node.runtime.engine import Engine
from node.runtime.errors import CapabilityMissing
from node.runtime.firewall import Firewall
from node.runtime.port import Capabilities, DiskLimit, Network
from node.runtime.sandbox import EngineTraits
from node.runtime.scratch import Disks

MEMORY_DISK_BYTES = 256 << 20  # chosen: the largest disk that is made of memory where none can be mounted
_RESERVE_BYTES = 1 << 30  # chosen: of the operator's own disk, never offered
_DRIVERS = ("local", "k8s-file", "json-file")  # the first keeps every byte as written; the last replaces bad UTF-8
_NEEDED = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap",
    "PidsLimit": "number of processes",
    "CpuCfsQuota": "processors",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What stays true while the runtime lives. mounts_disks: False puts disks into memory."""

    engine: str
    traits: EngineTraits
    networks: frozenset[Network]
    mounts_disks: bool
    isolated: bool
    notes: tuple[str, ...]

    def capabilities(self, free_bytes: int) -> Capabilities:
        """free_bytes: room for disks now."""
        most = max(0, free_bytes - _RESERVE_BYTES) if self.mounts_disks else MEMORY_DISK_BYTES
        return Capabilities(
            engine=self.engine,
            isolated=self.isolated,
            networks=self.networks,
            scratch_limit=DiskLimit.ENFORCED,
            root_limit=DiskLimit.ENFORCED if self.traits.sized_root else DiskLimit.WATCHED,
            max_disk_bytes=most,
            notes=self.notes,
        )


async def examine(engine: Engine, disks: Disks, firewall: Firewall) -> Machine:
    """Raises EngineUnavailable; all else that is missing narrows what is offered and becomes a note."""
    version = await engine.get("version")
    info = await engine.get("info")
    notes: list[str] = []
    unheld = [words for switch, words in _NEEDED.items() if info.get(switch) is False]
    if unheld:
        notes.append(f"The kernel can't limit {', '.join(unheld)}: strangers' work must not run here.")
    networks = {Network.NONE}
    try:
        await firewall.ensure()
        networks.add(Network.EGRESS)
    except CapabilityMissing as missing:
        notes.append(f"Containers get no network, because their access can't be limited: {missing}.")
    mounts_disks = True
    try:
        await disks.probe()
    except CapabilityMissing as missing:
        mounts_disks = False
        notes.append(
            f"/outputs and /scratch are kept in memory ({MEMORY_DISK_BYTES >> 20} MiB) and lost at exit: {missing}."
        )
    sized_root = _has_sized_root(info)
    if not sized_root:
        notes.append(
            f"The storage driver ({info.get('Driver')}) can't limit a container's own files outside /outputs, /scratch "
            "and /tmp: their size is looked at every few seconds instead (overlay2 on XFS with pquota limits it)."
        )
    traits = EngineTraits(_log_driver(info), _has_init(version, info), sized_root)
    if not traits.has_init:
        notes.append("The engine has no init program: a container's orphaned processes stay until it ends.")
    return Machine(_name(version), traits, frozenset(networks), mounts_disks, not unheld, tuple(notes))


def _name(version: dict[str, Any]) -> str:
    """From the list of components; version numbers of different engines can't be compared."""
    parts = {part["Name"]: part["Version"] for part in version.get("Components") or []}
    for ours, theirs in (("podman", "Podman Engine"), ("docker", "Engine")):
        if theirs in parts:
            return f"{ours} {parts[theirs]}"
    return f"unknown {version.get('Version', '')}".strip()


def _log_driver(info: dict[str, Any]) -> str:
    known = (info.get("Plugins") or {}).get("Log") or ()
    return next((driver for driver in _DRIVERS if driver in known), "json-file")


def _has_init(version: dict[str, Any], info: dict[str, Any]) -> bool:
    """Docker lists its init program as a component; Podman brings catatonit, which it doesn't list."""
    names = {part["Name"] for part in version.get("Components") or []}
    return "docker-init" in names and bool(info.get("InitBinary"))


def _has_sized_root(info: dict[str, Any]) -> bool:
    """Docker takes a size for the root on these drivers; overlay2 only on XFS mounted with project quotas,
    which its status doesn't tell, so that case is left to the watch.
    """
    return re.fullmatch(r"btrfs|zfs", str(info.get("Driver"))) is not None
