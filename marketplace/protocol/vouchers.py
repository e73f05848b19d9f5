"""The voucher: cumulative usage of one attempt, signed by the node and countersigned by the meter.

Source: program.md section 4. Vouchers replace each other: the latest says everything, so a lost one costs nothing.
Golden vectors: tests/golden/messages.json, read by Rust as well.
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

DOMAIN: Final = b"reaver:voucher:1"
_FIELDS: Final = struct.Struct("<32s32s32sI32s32sQqqQQBH32s")
SIZE: Final = _FIELDS.size


class VoucherState(IntEnum):
    """What the voucher says of its attempt."""

    RUNNING = 1
    ENDED = 2
    """The attempt is over, the escrow goes on to another."""
    FINAL = 3
    """The attempt is over and the escrow closes."""


@dataclass(frozen=True, slots=True)
class VoucherMessage:
    """Fields of a voucher in their order on the wire; addresses, hashes and digest are 32 raw bytes.

    node: address of the Node account on chain.
    sequence: rises with each voucher of an attempt, from 1.
    started_at_ms: ready, milliseconds of chain time; fixed by the first accepted voucher.
    at_ms: when the usage was read. billed_ms: metered since ready. amount: due for it, base units.
    reason: number of api.md section 10.2, 0 while running.
    digest: SHA-256(log digest + manifest of outputs).
    """

    program_id: bytes
    genesis_hash: bytes
    escrow: bytes
    attempt: int
    wallet: bytes
    node: bytes
    sequence: int
    started_at_ms: int
    at_ms: int
    billed_ms: int
    amount: int
    state: VoucherState
    reason: int
    digest: bytes

    def fields(self) -> bytes:
        """The fields, fixed width, little endian (the digest's input, and the form in which vouchers travel)."""
        return _FIELDS.pack(
            self.program_id,
            self.genesis_hash,
            self.escrow,
            self.attempt,
            self.wallet,
            self.node,
            self.sequence,
            self.started_at_ms,
            self.at_ms,
            self.billed_ms,
            self.amount,
            self.state,
            self.reason,
            self.digest,
        )

    @classmethod
    def from_fields(cls, raw: bytes) -> "VoucherMessage":
        """The voucher of `fields()`. Raises ValueError for another length or an unknown state."""
        if len(raw) != SIZE:
            raise ValueError(f"a voucher has {SIZE} bytes, this has {len(raw)}")
        (
            program_id,
            genesis_hash,
            escrow,
            attempt,
            wallet,
            node,
            sequence,
            started_at_ms,
            at_ms,
            billed_ms,
            amount,
            state,
            reason,
            digest,
        ) = _FIELDS.unpack(raw)
        return cls(
            program_id=program_id,
            genesis_hash=genesis_hash,
            escrow=escrow,
            attempt=attempt,
            wallet=wallet,
            node=node,
            sequence=sequence,
            started_at_ms=started_at_ms,
            at_ms=at_ms,
            billed_ms=billed_ms,
            amount=amount,
            state=VoucherState(state),
            reason=reason,
            digest=digest,
        )

    def signing_bytes(self) -> bytes:
        """The 48 bytes that the node's key and the meter's key sign."""
        return DOMAIN + hashlib.sha256(self.fields()).digest()
