"""Instructions of the Ed25519 precompile, in the one form that the program accepts.

One signature, key, signature and message inside the instruction's own data, and all three instruction
indexes 0xFFFF ("this instruction"): another index would let the precompile check bytes of an instruction
that our program doesn't look at (program.md, section 6, line 10).
"""

import struct
from dataclasses import dataclass
from typing import Final

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.addresses import ED25519_PROGRAM
from marketplace.chain.errors import UnsupportedTransaction

_HEADER: Final = struct.Struct("<BBHHHHHHH")
_SELF: Final = 0xFFFF
_KEY_AT: Final = _HEADER.size
_SIGNATURE_AT: Final = _KEY_AT + 32
_MESSAGE_AT: Final = _SIGNATURE_AT + 64


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """What one precompile instruction proves: `key` signed `message`."""

    key: Pubkey
    message: bytes
    signature: Signature


def verify_instruction(check: SignatureCheck) -> Instruction:
    """The precompile instruction that fails its whole transaction unless the signature is good.

    Costs one signature's base fee.
    """
    header = _HEADER.pack(1, 0, _SIGNATURE_AT, _SELF, _KEY_AT, _SELF, _MESSAGE_AT, len(check.message), _SELF)
    data = header + bytes(check.key) + bytes(check.signature) + check.message
    return Instruction(ED25519_PROGRAM, data, [])


def read_instruction(data: bytes) -> SignatureCheck:
    """What a precompile instruction proves. Raises UnsupportedTransaction for any other form than ours."""
    if len(data) < _MESSAGE_AT:
        raise UnsupportedTransaction("an Ed25519 instruction too short for one signature")
    expected = (1, 0, _SIGNATURE_AT, _SELF, _KEY_AT, _SELF, _MESSAGE_AT, len(data) - _MESSAGE_AT, _SELF)
    if _HEADER.unpack_from(data) != expected:
        raise UnsupportedTransaction("an Ed25519 instruction that is not one self-contained signature")
    return SignatureCheck(
        key=Pubkey.from_bytes(data[_KEY_AT:_SIGNATURE_AT]),
        message=data[_MESSAGE_AT:],
        signature=Signature.from_bytes(data[_SIGNATURE_AT:_MESSAGE_AT]),
    )
