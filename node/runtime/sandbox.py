"""What the engine is told about a container: the sandbox defaults of docs/runtime.md, in one place.

A stranger's program runs in it. It has no capability, can't gain any, has no swap, no device, no port, and
nothing of the host but its own disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.runtime.errors import ImageFault, ImageUnavailable
from node.runtime.naming import ROOT_LIMIT, SPEC, Namespace, fingerprint
from node.runtime.port import (
    CHECKPOINT_PATH,
    INPUTS_PATH,
    NOTES_PATH,
    OUTPUTS_PATH,
    PROGRESS_NAME,
    SCRATCH_PATH,
    ContainerSpec,
    Network,
)
from node.runtime.scratch import Disk

TEMPORARY_PATH = "/tmp"  # noqa: S108 - inside the container
_OPEN_FILES = 16_384  # chosen: what servers ask for, below the hard limit (20,000) of an engine started without
# CAP_SYS_RESOURCE, which can't set more than it has itself
_OOM_SCORE = 500  # chosen: under the host's own memory pressure a job dies before the operator's programs
_LOG_FILE = "128m"
_LOG_FILES = "2"  # together more than LOG_TOTAL_BYTES, so the reader's own limit is met first


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """What of the sandbox depends on the engine."""

    log_driver: str
    has_init: bool
    sized_root: bool


def create_body(
    spec: ContainerSpec,
    names: Namespace,
    traits: EngineTraits,
    *,
    disk: Disk | None,
    image_config: Mapping[str, Any],
    dns: tuple[str, ...],
) -> dict[str, Any]:
    """The request that creates the attempt's container.

    disk: None puts /outputs and /scratch into memory, of at most limits.disk_bytes together.
    Raises ImageUnavailable when neither the image nor the specification says what to run.
    """
    body: dict[str, Any] = {
        "Image": spec.image.pinned,
        "Env": [f"{name}={value}" for name, value in (*_places(spec), *spec.env)],
        "Labels": {
            **names.labels(spec.key),
            SPEC: fingerprint(spec),
            ROOT_LIMIT: str(spec.limits.disk_bytes),
        },
        "HostConfig": _host_config(spec, names, traits, disk, dns),
        **_command(spec, image_config),
    }
    if spec.workdir is not None:
        body["WorkingDir"] = spec.workdir
    return body


def _host_config(
    spec: ContainerSpec, names: Namespace, traits: EngineTraits, disk: Disk | None, dns: tuple[str, ...]
) -> dict[str, Any]:
    limits = spec.limits
    config: dict[str, Any] = {
        "NetworkMode": names.name(spec.key) if spec.network is Network.EGRESS else "none",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "IpcMode": "private",
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,  # the sum of both: no swap
        "NanoCpus": limits.milli_cpus * 1_000_000,
        "PidsLimit": limits.pids,
        # It counts as the container's memory, so half of that costs nobody anything. Source: api.md section 5.2.
        "ShmSize": spec.shm_bytes or limits.memory_bytes // 2,
        "OomScoreAdj": _OOM_SCORE,
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value}
            for name, value in {"nofile": _OPEN_FILES, "core": 0, **dict(spec.ulimits)}.items()
        ],
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": traits.log_driver, "Config": {"max-size": _LOG_FILE}},
        "Init": traits.has_init,
    }
    if traits.log_driver != "k8s-file":  # Podman's has one file and no such option
        config["LogConfig"]["Config"]["max-file"] = _LOG_FILES
    if spec.network is Network.EGRESS:
        config["Dns"] = list(dns)
    if traits.sized_root:
        config["StorageOpt"] = {"size": str(limits.disk_bytes)}
    if disk is not None:
        config["Mounts"] = [
            _bind(str(disk.inputs), INPUTS_PATH, read_only=True),
            _bind(str(disk.outputs), OUTPUTS_PATH),
            _bind(str(disk.scratch), SCRATCH_PATH),
            _bind(str(disk.temporary), TEMPORARY_PATH),
            _bind(str(disk.notes), NOTES_PATH),
            *([_bind(str(disk.checkpoint), CHECKPOINT_PATH)] if spec.checkpoint else []),
        ]
    else:
        part = f"rw,nosuid,nodev,mode=1777,size={max(1, limits.disk_bytes // 3)}"
        config["Tmpfs"] = dict.fromkeys((OUTPUTS_PATH, SCRATCH_PATH, TEMPORARY_PATH), f"{part},exec")
        config["Tmpfs"][NOTES_PATH] = "rw,nosuid,nodev,noexec,mode=1777,size=65536"
    return config


def _places(spec: ContainerSpec) -> tuple[tuple[str, str], ...]:
    """Where a job finds what the container contract promises (docs/runtime.md)."""
    places = [("REAVER_OUTPUTS", OUTPUTS_PATH), ("REAVER_PROGRESS", f"{NOTES_PATH}/{PROGRESS_NAME}")]
    if spec.checkpoint:
        places.append(("REAVER_CHECKPOINT", CHECKPOINT_PATH))
    if spec.input_name is not None:
        places.append(("REAVER_INPUT", f"{INPUTS_PATH}/{spec.input_name}"))
    return tuple(places)


def _bind(source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _command(spec: ContainerSpec, image_config: Mapping[str, Any]) -> dict[str, Any]:
    """Engines read an empty list as "as the image says", so what () means is written out here."""
    entrypoint = spec.entrypoint if spec.entrypoint is not None else tuple(image_config.get("Entrypoint") or ())
    if spec.command is not None:
        command = spec.command
    elif spec.entrypoint is None:
        command = tuple(image_config.get("Cmd") or ())
    else:
        command = ()  # as with `docker run --entrypoint`: another program doesn't want the image's arguments
    if not entrypoint and not command:
        raise ImageUnavailable(ImageFault.INVALID, "neither the image nor the job says which command to run")
    if not entrypoint:
        return {"Entrypoint": [""], "Cmd": list(command)}
    return {"Entrypoint": list(entrypoint), "Cmd": list(command)}
