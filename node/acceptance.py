"""Whether this node consents to a claim request. Nothing the market says is taken for granted here."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from marketplace.domain.money import hourly_from_gpu_second
from marketplace.protocol import sealing
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.control import ClaimRequest
from marketplace.protocol.terms import JobSpec
from node.keys import KeyPair
from node.metering import Bounds, Identity
from node.runtime.port import Network

_ADDRESS_BYTES = 32
# Chosen: below a second of paid time nothing useful runs, and the chain's fees exceed the pay.
_LEAST_PAID_MS = 1000


class RefuseCode(StrEnum):
    """Why a node does not take a claim request; the words are matching's where it has one."""

    DRAINING = "draining"
    MARKET = "market"
    """For another market, program, chain or node than the pinned ones."""
    CLASS = "class"
    CAPACITY = "capacity"
    PRICE = "price"
    FEE = "fee"
    DEPOSIT = "deposit"
    TERMS = "terms"
    """The sealed specification can't be opened, read, or is not what the request says."""
    NETWORK = "network"
    DISK = "disk"
    CLOCK = "clock"
    """The market's chain time is not the chain's."""
    CONFLICT = "conflict"
    """This attempt was claimed already, in other words."""


class ClaimRefused(Exception):
    """The node does not take it."""

    def __init__(self, code: RefuseCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows, and what the machine can do.

    floor_per_gpu_second: decimal text in tokens. networks, max_disk_bytes: measured from the runtime.
    """

    class_id: str
    slots: int
    floor_per_gpu_second: str
    decimals: int
    max_fee_bps: int
    max_disk_gb: int
    networks: frozenset[Network]


def examine(
    request: ClaimRequest, *, policy: Policy, identity: Identity, key: KeyPair, free_slots: int, draining: bool
) -> JobSpec:
    """The specification that the node consents to run. Raises ClaimRefused."""
    _check(not draining, RefuseCode.DRAINING, "this node takes no new work")
    _check_frame(request, policy, identity)
    spec = open_spec(request, key)
    _check(
        spec.class_id == request.class_id and spec.gpu_count >= 1,
        RefuseCode.TERMS,
        "class or slots of the specification is not the request's",
    )
    _check(spec.gpu_count <= free_slots, RefuseCode.CAPACITY, f"{spec.gpu_count} slots asked, {free_slots} free")
    floor = hourly_from_gpu_second(policy.floor_per_gpu_second, spec.gpu_count, policy.decimals, ceiling=False)
    _check(request.price_per_hour >= floor, RefuseCode.PRICE, f"{request.price_per_hour} an hour, floor {floor}")
    _check(Network(spec.network) in policy.networks, RefuseCode.NETWORK, f"no network {spec.network} here")
    _check(
        1 <= spec.disk_gb <= policy.max_disk_gb,
        RefuseCode.DISK,
        f"{spec.disk_gb} GB of disk asked, at most {policy.max_disk_gb}",
    )
    return spec


def open_spec(request: ClaimRequest, key: KeyPair) -> JobSpec:
    """The sealed specification. Raises ClaimRefused."""
    try:
        return JobSpec.model_validate_json(sealing.unseal(key.seed, request.sealed_spec))
    except sealing.NotForUs as error:
        raise ClaimRefused(RefuseCode.TERMS, "the specification is not sealed to this node") from error
    except ValidationError as error:
        raise ClaimRefused(RefuseCode.TERMS, "the specification can't be read") from error


def _check_frame(request: ClaimRequest, policy: Policy, identity: Identity) -> None:
    """What can be judged before the specification is opened."""
    _check(
        request.market == identity.market and request.node == identity.node,
        RefuseCode.MARKET,
        "the request is for another market or node",
    )
    _check(
        all(len(raw) == _ADDRESS_BYTES for raw in (request.escrow, request.wallet, request.terms_hash)),
        RefuseCode.TERMS,
        "escrow, wallet and terms hash have 32 bytes",
    )
    _check(request.class_id == policy.class_id, RefuseCode.CLASS, f"this node offers {policy.class_id}")
    _check(request.fee_bps <= policy.max_fee_bps, RefuseCode.FEE, f"fees above {policy.max_fee_bps} basis points")
    _check(
        Bounds.of(request).limit_ms >= min(_LEAST_PAID_MS, request.max_ms),
        RefuseCode.DEPOSIT,
        "the deposit pays less than a second",
    )


def _check(holds: bool, code: RefuseCode, message: str) -> None:  # noqa: FBT001 - a condition, not a switch
    if not holds:
        raise ClaimRefused(code, message)


def consent(request: ClaimRequest, identity: Identity, class_bytes: bytes, at_ms: int) -> ClaimMessage:
    """The claim that says yes to exactly this request."""
    return ClaimMessage(
        program_id=identity.program_id,
        genesis_hash=identity.genesis_hash,
        escrow=request.escrow,
        attempt=request.attempt,
        market=identity.market,
        node=identity.node,
        class_id=class_bytes,
        price_per_hour=request.price_per_hour,
        remaining_max_ms=request.max_ms,
        remaining_deposit=request.deposit,
        terms_hash=request.terms_hash,
        fee_bps=request.fee_bps,
        at_ms=at_ms,
    )
