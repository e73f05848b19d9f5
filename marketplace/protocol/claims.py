"""The claim: a node's signed consent to one attempt of an allocation. Source: program.md section 4.

What is signed is `domain[16] + sha256(fields)`, 48 bytes; the program rebuilds the fields from its own
accounts and the instruction's arguments. Golden vectors: tests/golden/messages.json, read by Rust as well.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

DOMAIN: Final = b"reaver:claim:v01"
_FIELDS: Final = struct.Struct("<32s32s32sI32s32s16sQQQ32sHq")


@dataclass(frozen=True, slots=True)
class ClaimMessage:
    """Fields of a claim in their order on the wire; addresses and hashes are 32 raw bytes.

    escrow, market, node: addresses of the accounts on chain (node is the Node account, not the node's key).
    attempt: number of the attempt that the claim consents to, the first is 1.
    price_per_hour: agreed price, base units of the payment token.
    remaining_max_ms, remaining_deposit: least time and money that the attempt must find.
    fee_bps: all fees of the attempt, market's and protocol's together.
    at_ms: when the node signed, milliseconds of chain time.
    """

    program_id: bytes
    genesis_hash: bytes
    escrow: bytes
    attempt: int
    market: bytes
    node: bytes
    class_id: bytes
    price_per_hour: int
    remaining_max_ms: int
    remaining_deposit: int
    terms_hash: bytes
    fee_bps: int
    at_ms: int

    def fields(self) -> bytes:
        """The fields, fixed width, little endian (the digest's input)."""
        return _FIELDS.pack(
            self.program_id,
            self.genesis_hash,
            self.escrow,
            self.attempt,
            self.market,
            self.node,
            self.class_id,
            self.price_per_hour,
            self.remaining_max_ms,
            self.remaining_deposit,
            self.terms_hash,
            self.fee_bps,
            self.at_ms,
        )

    def signing_bytes(self) -> bytes:
        """The 48 bytes that the node's key signs."""
        return DOMAIN + hashlib.sha256(self.fields()).digest()
