"""Why an allocation ended: one vocabulary for the API, events, metrics, vouchers and the chain.

The number is what a voucher and an event on chain carry. Source: api.md section 10.2.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Reason(IntEnum):
    """Reason numbers; the lower-case name is the public code."""

    RUNNING = 0
    COMPLETED = 1
    APP_ERROR = 2
    CANCELLED = 3
    TIMEOUT = 4
    QUEUE_EXPIRED = 5
    NO_CAPACITY = 6
    IMAGE_UNAVAILABLE = 7
    PULL_FAILED = 8
    START_TIMEOUT = 9
    VERIFY_FAILED = 10
    OOM = 11
    DISK_FULL = 12
    CRASH_LOOP = 13
    INPUT_UNAVAILABLE = 14
    OUTPUT_DELIVERY_FAILED = 15
    OUTPUT_TOO_LARGE = 16
    OUT_OF_FUNDS = 17
    NODE_LOST = 18
    NODE_QUIT = 19
    NODE_DRAINED = 20
    INTERRUPTED = 21
    IDLE_TIMEOUT = 22
    LEASE_EXPIRED = 23
    HARD_MAX = 24
    SCALED_DOWN = 25
    REPLACED = 26
    WORKER_UNHEALTHY = 27
    WORKER_LOST = 28
    PROVIDER_FAILED = 29
    STALE_INVENTORY = 30
    MACHINE_VANISHED = 31
    OVERCLAIM = 32
    POLICY = 34
    MARKET_ERROR = 35

    @property
    def code(self) -> str:
        """The public code, such as `node_lost`."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason means in words, and who pays what."""

    text: str
    renter_pays: str
    node: str


_USED: Final = "used"
_PAID: Final = "paid"

MEANINGS: Final[dict[Reason, Meaning]] = {
    Reason.RUNNING: Meaning("not ended", "-", "-"),
    Reason.COMPLETED: Meaning("exit 0, or the renter ended it", _USED, _PAID),
    Reason.APP_ERROR: Meaning("non-zero exit of the workload", _USED, _PAID),
    Reason.CANCELLED: Meaning("the renter cancelled", "used; 0 if unassigned", _PAID),
    Reason.TIMEOUT: Meaning("the time limit was reached", _USED, _PAID),
    Reason.QUEUE_EXPIRED: Meaning("nobody took it in time", "0", "-"),
    Reason.NO_CAPACITY: Meaning("refused at creation", "0", "-"),
    Reason.IMAGE_UNAVAILABLE: Meaning("the image is unknown, denied or too large", "0", "no penalty"),
    Reason.PULL_FAILED: Meaning("the node could not pull what others can", "0", "counted; requeued"),
    Reason.START_TIMEOUT: Meaning(
        "not ready within the limit, or its checkpoint not restored within its own", "0", "counted; requeued"
    ),
    Reason.VERIFY_FAILED: Meaning("the readiness check never passed", "0", "counted"),
    Reason.OOM: Meaning("memory limit", _USED, _PAID),
    Reason.DISK_FULL: Meaning("disk limit", _USED, _PAID),
    Reason.CRASH_LOOP: Meaning("brake after 8 rounds", _USED, _PAID),
    Reason.INPUT_UNAVAILABLE: Meaning("the input could not be fetched", "0", "-"),
    Reason.OUTPUT_DELIVERY_FAILED: Meaning("the output could not be delivered; a local copy is kept", _USED, _PAID),
    Reason.OUTPUT_TOO_LARGE: Meaning("the output is over the limit", _USED, _PAID),
    Reason.OUT_OF_FUNDS: Meaning("the deposit is used up", "used (= deposit)", _PAID),
    Reason.NODE_LOST: Meaning(
        "3 heartbeats missed, released by the meter",
        "used to the last acknowledged voucher; receives compensation when the contest window ends",
        "paid that; compensation out of the operator's own bond",
    ),
    Reason.NODE_QUIT: Meaning(
        "the node gave up after claiming",
        _USED,
        "paid; as a loss, unless the market was silent for 3 x lost_after",
    ),
    Reason.NODE_DRAINED: Meaning("maintenance, handed over", _USED, "paid; never slashed"),
    Reason.INTERRUPTED: Meaning("interruptible capacity taken back", _USED, _PAID),
    Reason.IDLE_TIMEOUT: Meaning("idle threshold", _USED, _PAID),
    Reason.LEASE_EXPIRED: Meaning("reservation over", _USED, _PAID),
    Reason.HARD_MAX: Meaning("12 hours", _USED, _PAID),
    Reason.SCALED_DOWN: Meaning("worker not needed", _USED, _PAID),
    Reason.REPLACED: Meaning("old version, or the worker asked to be recycled", _USED, _PAID),
    Reason.WORKER_UNHEALTHY: Meaning("fitness check failed", "0 before ready, else used", "counted"),
    Reason.WORKER_LOST: Meaning("request lost on 3 workers", "time of the workers", "-"),
    Reason.PROVIDER_FAILED: Meaning("the supplier refused to create", "0", "-"),
    Reason.STALE_INVENTORY: Meaning("the offer was gone at creation", "0", "-"),
    Reason.MACHINE_VANISHED: Meaning(
        "the supplier says gone while running", "used to the last sign of life", "broker paid that"
    ),
    Reason.OVERCLAIM: Meaning(
        "voucher far beyond the clock, proved by signature",
        "used to the last countersigned voucher",
        "slashed",
    ),
    Reason.POLICY: Meaning("stopped by the market for abuse", _USED, _PAID),
    Reason.MARKET_ERROR: Meaning("the market's own fault", "0 for the faulty span", "the market bears it"),
}

JOB_REASONS: Final = frozenset(
    {
        Reason.COMPLETED, Reason.APP_ERROR, Reason.CANCELLED, Reason.TIMEOUT, Reason.QUEUE_EXPIRED,
        Reason.IMAGE_UNAVAILABLE, Reason.PULL_FAILED, Reason.START_TIMEOUT, Reason.OOM, Reason.DISK_FULL,
        Reason.INPUT_UNAVAILABLE, Reason.OUTPUT_DELIVERY_FAILED, Reason.OUTPUT_TOO_LARGE, Reason.OUT_OF_FUNDS,
        Reason.NODE_LOST, Reason.NODE_QUIT, Reason.NODE_DRAINED, Reason.OVERCLAIM, Reason.MARKET_ERROR,
    }
)  # fmt: skip
"""Reasons for which a job, or an attempt of one, can end. The others belong to instances, workers and suppliers."""


BEFORE_READY: Final = frozenset(
    {
        Reason.IMAGE_UNAVAILABLE, Reason.PULL_FAILED, Reason.START_TIMEOUT, Reason.VERIFY_FAILED,
        Reason.INPUT_UNAVAILABLE,
    }
)  # fmt: skip
"""Ends of an attempt whose meter never ran: the renter pays nothing, so nothing that was billed can end for one."""

OF_NODES: Final = BEFORE_READY | frozenset(
    {
        Reason.COMPLETED, Reason.APP_ERROR, Reason.CANCELLED, Reason.TIMEOUT, Reason.OOM, Reason.DISK_FULL,
        Reason.OUTPUT_DELIVERY_FAILED, Reason.OUTPUT_TOO_LARGE, Reason.OUT_OF_FUNDS, Reason.NODE_QUIT,
        Reason.NODE_DRAINED,
    }
)  # fmt: skip
"""Ends that a node can speak of. The others are the market's to say: its own fault, a silence, a lie that is proved.
None is of capacity that is taken back (`interrupted`): no job is placed on such."""


def believed(said: Reason, *, ready: bool, cancelling: bool, draining: bool) -> Reason:
    """What counts of a node's word for the end of its attempt: a word that can't be true is a node that gave up.

    ready: whether its meter ever ran. cancelling: whether the renter asked for the end. draining: whether the node's
    maintenance was announced to the market, which gives it no other work.
    """
    untrue = (
        said not in OF_NODES
        or (said in BEFORE_READY and ready)
        or (said is Reason.CANCELLED and not cancelling)
        or (said is Reason.NODE_DRAINED and not draining)
    )
    return Reason.NODE_QUIT if untrue else said


def reasons_table() -> str:
    """Every reason with who pays what, as the Markdown table of docs/reasons.md."""
    lines = ["| n | code | meaning | renter pays | node, pool | jobs |", "| --- | --- | --- | --- | --- | --- |"]
    for reason, meaning in MEANINGS.items():
        jobs = "yes" if reason in JOB_REASONS else ""
        lines.append(
            f"| {int(reason)} | `{reason.code}` | {meaning.text} | {meaning.renter_pays} | {meaning.node} | {jobs} |"
        )
    return "\n".join(lines) + "\n"
