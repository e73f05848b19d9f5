"""Reads an engine's description of a container into our words."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from node.runtime.port import (
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    AttemptKey,
    Container,
    ContainerState,
    Outcome,
    Usage,
)
from node.runtime.scratch import Disk

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RUNNING = frozenset({"running", "paused", "restarting"})
_GOING = frozenset({"removing", "dead"})


def is_gone(found: dict[str, Any]) -> bool:
    """Whether the engine is about to forget the container."""
    return found["State"]["Status"] in _GOING


def container_of(key: AttemptKey, found: dict[str, Any], *, disk: Disk | None, disk_full: bool) -> Container:
    """disk, disk_full: what the disk says; the engine knows nothing of it."""
    state = found["State"]
    created_at = moment(found["Created"])
    started_at = moment_or_none(state.get("StartedAt"))
    exit_code = int(state.get("ExitCode") or 0)
    never_ran = state["Status"] in ("created", "configured")
    unusable = never_ran and exit_code in (EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE)
    if state["Status"] in _RUNNING:
        phase = ContainerState.RUNNING
    elif never_ran and not unusable:
        phase = ContainerState.CREATED
    else:
        phase = ContainerState.EXITED
    outcome = None
    if phase is ContainerState.EXITED:
        failed = exit_code != 0
        outcome = Outcome(
            exit_code=exit_code,
            oom_killed=failed and bool(state.get("OOMKilled")),
            disk_full=failed and disk_full,
            # the engine stamps a start once the process already runs: one that ends at once would end before it
            finished_at=max(moment_or_none(state.get("FinishedAt")) or created_at, started_at or created_at),
            message=str(state.get("Error") or ""),
        )
    return Container(
        key=key,
        container_id=str(found["Id"]),
        image_digest=_digest(found),
        state=phase,
        created_at=created_at,
        started_at=None if never_ran else started_at,
        outcome=outcome,
        outputs=disk.outputs if disk else None,
        scratch=disk.scratch if disk else None,
        notes=disk.notes if disk else None,
        checkpoint=disk.checkpoint if disk else None,
    )


def usage_of(found: dict[str, Any]) -> Usage | None:
    """An engine's statistics of a container; None of one that isn't running."""
    cpu = (found.get("cpu_stats") or {}).get("cpu_usage") or {}
    memory = found.get("memory_stats") or {}
    if "total_usage" not in cpu or "usage" not in memory:
        return None
    details = memory.get("stats") or {}
    # What could be dropped at once is no use of it: inactive_file on cgroup 2, total_inactive_file on 1.
    cache = int(details.get("inactive_file", details.get("total_inactive_file", 0)))
    networks = (found.get("networks") or {}).values()
    return Usage(
        cpu_ms=int(cpu["total_usage"]) // 1_000_000,
        memory_bytes=max(0, int(memory["usage"]) - cache),
        received_bytes=sum(int(network.get("rx_bytes", 0)) for network in networks),
        sent_bytes=sum(int(network.get("tx_bytes", 0)) for network in networks),
    )


def moment(text: str) -> datetime:
    """An engine's timestamp, to the microsecond."""
    return _EPOCH + timedelta(microseconds=nanoseconds(text) // 1000)


def moment_or_none(text: str | None) -> datetime | None:
    """None for an absent one and for year 1, which means "never"."""
    return None if not text or text.startswith("0001-") else moment(text)


def nanoseconds(text: str) -> int:
    """An engine's timestamp, exactly, since the Unix epoch. Raises ValueError."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no timestamp of an engine")
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")) - _EPOCH
    fraction = int((match[2] or "0").ljust(9, "0"))
    return (whole.days * 86_400 + whole.seconds) * 1_000_000_000 + fraction


def _digest(found: dict[str, Any]) -> str:
    """Containers are created by name@digest only, and the engine repeats that."""
    return str(found["Config"]["Image"]).rpartition("@")[2]
