"""A registered machine as the market knows it, its status and its uptime."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from marketplace.domain.catalogue import HardwareClass
from marketplace.domain.ids import AccountId, NodeId
from marketplace.domain.quantities import Tokens

UPTIME_WINDOW_MS: Final = 30 * 24 * 3_600_000
"""Uptime counts over 30 rolling days (api.md section 5.5)."""
_GRACE_MINUTES: Final = 10
LEAST_UPTIME: Final = Fraction(98, 100)
"""Below it a node gets no new work until it recovers (api.md section 5.5)."""
_MEMORY_TOLERANCE: Final = Fraction(9, 10)
"""Chosen: a machine sold with 2 GB shows less to its programs; kernel and firmware keep some."""


class NodeStatus(StrEnum):
    """What a node may be given."""

    PENDING = "pending"
    """Registered on chain; its hardware is not accepted yet."""
    BENCHMARKING = "benchmarking"
    ACTIVE = "active"
    DRAINING = "draining"
    SUSPENDED = "suspended"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine with its own key.

    region: its place, a region's code or that of a country in one (`catalogue.find_place`).
    address: its Node account. operator: wallet that owns it and is paid. floor_per_hour: per GPU or slot.
    declared: canonical JSON of the hardware as registered. hardware, capabilities: JSON as last measured by the node.
    register_key, body_hash: the registering request's Idempotency-Key and the body it is bound to.
    """

    id: NodeId
    node_key: str
    address: str
    operator: str
    account_id: AccountId
    class_id: str
    region: str
    floor_per_hour: Tokens
    status: NodeStatus
    declared: str
    joined_at_ms: int
    register_key: str
    body_hash: bytes
    slots: int = 0
    name: str | None = None
    data_center: str | None = None
    low_floor_per_hour: Tokens | None = None
    last_seen_at_ms: int | None = None
    hardware: str | None = None
    capabilities: str | None = None
    version: str | None = None


def slots_that_fit(wanted: HardwareClass, vcpu: int, ram_bytes: int, gpus: int) -> int:
    """How many slots of a class a machine with this measured hardware offers; 0 when it isn't of the class."""
    gib = 1 << 30
    by_memory = int(Fraction(ram_bytes, gib) / (wanted.ram_gb * _MEMORY_TOLERANCE))
    slots = min(vcpu // wanted.vcpu, by_memory)
    return min(slots, gpus) if wanted.gpu else slots


def uptime(now_ms: int, joined_at_ms: int, down_ms: int) -> Fraction:
    """min(1, (minutes - down + 10) / minutes) over the rolling window (api.md section 5.5).

    down_ms: time away inside the window.
    """
    minutes = Fraction(max(min(now_ms - joined_at_ms, UPTIME_WINDOW_MS), 60_000), 60_000)
    return max(Fraction(0), min(Fraction(1), (minutes - Fraction(down_ms, 60_000) + _GRACE_MINUTES) / minutes))
