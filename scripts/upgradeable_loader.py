"""The upgradeable loader's instructions and accounts, by their bytes: solders has neither.

Source: solana-loader-v3-interface (instruction.rs, state.rs); all integers are little-endian, enums bincode's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, create_account

from marketplace.chain.addresses import (
    CLOCK_SYSVAR,
    SYSTEM_PROGRAM,
    UPGRADEABLE_LOADER,
    program_data_address,
)

RENT_SYSVAR: Final = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
# Specified: sizes of the state before the program's bytes: tag, (slot,) option and authority.
BUFFER_HEADER_BYTES: Final = 37
PROGRAM_BYTES: Final = 36
PROGRAM_DATA_HEADER_BYTES: Final = 45
_BUFFER, _PROGRAM, _PROGRAM_DATA = 1, 2, 3


@dataclass(frozen=True)
class Buffer:
    """A buffer account; authority None: nobody may write it any more."""

    authority: Pubkey | None
    content: bytes


@dataclass(frozen=True)
class ProgramData:
    """Where a program's bytes are; authority None: it can't be upgraded any more. content: with the room behind."""

    slot: int
    authority: Pubkey | None
    content: bytes


def parse_buffer(data: bytes) -> Buffer | None:
    if len(data) < BUFFER_HEADER_BYTES or int.from_bytes(data[:4], "little") != _BUFFER:
        return None
    return Buffer(_authority(data[4:37]), data[BUFFER_HEADER_BYTES:])


def parse_program(data: bytes) -> Pubkey | None:
    """The address of the program's data."""
    if len(data) < PROGRAM_BYTES or int.from_bytes(data[:4], "little") != _PROGRAM:
        return None
    return Pubkey.from_bytes(data[4:36])


def parse_program_data(data: bytes) -> ProgramData | None:
    if len(data) < PROGRAM_DATA_HEADER_BYTES:
        return None
    tag, slot = struct.unpack_from("<IQ", data)
    if tag != _PROGRAM_DATA:
        return None
    return ProgramData(slot, _authority(data[12:45]), data[PROGRAM_DATA_HEADER_BYTES:])


def create_buffer(payer: Pubkey, buffer: Pubkey, authority: Pubkey, size: int, rent: int) -> list[Instruction]:
    """An empty buffer for `size` bytes of program."""
    space = BUFFER_HEADER_BYTES + size
    made = CreateAccountParams(
        from_pubkey=payer, to_pubkey=buffer, lamports=rent, space=space, owner=UPGRADEABLE_LOADER
    )
    metas = [AccountMeta(buffer, False, True), AccountMeta(authority, False, False)]
    return [create_account(made), Instruction(UPGRADEABLE_LOADER, struct.pack("<I", 0), metas)]


def write(buffer: Pubkey, authority: Pubkey, offset: int, chunk: bytes) -> Instruction:
    data = struct.pack("<IIQ", 1, offset, len(chunk)) + chunk
    return Instruction(
        UPGRADEABLE_LOADER, data, [AccountMeta(buffer, False, True), AccountMeta(authority, True, False)]
    )


def deploy(
    payer: Pubkey, program: Pubkey, buffer: Pubkey, authority: Pubkey, max_bytes: int, program_rent: int
) -> list[Instruction]:
    """Make the program of a complete buffer; the buffer is used up."""
    made = CreateAccountParams(
        from_pubkey=payer, to_pubkey=program, lamports=program_rent, space=PROGRAM_BYTES, owner=UPGRADEABLE_LOADER
    )
    metas = [
        AccountMeta(payer, True, True),
        AccountMeta(program_data_address(program), False, True),
        AccountMeta(program, False, True),
        AccountMeta(buffer, False, True),
        AccountMeta(RENT_SYSVAR, False, False),
        AccountMeta(CLOCK_SYSVAR, False, False),
        AccountMeta(SYSTEM_PROGRAM, False, False),
        AccountMeta(authority, True, False),
    ]
    return [create_account(made), Instruction(UPGRADEABLE_LOADER, struct.pack("<IQ", 2, max_bytes), metas)]


def upgrade(program: Pubkey, buffer: Pubkey, authority: Pubkey, spill: Pubkey) -> Instruction:
    """Put a complete buffer in the program's place; what the buffer's rent leaves over goes to `spill`."""
    metas = [
        AccountMeta(program_data_address(program), False, True),
        AccountMeta(program, False, True),
        AccountMeta(buffer, False, True),
        AccountMeta(spill, False, True),
        AccountMeta(RENT_SYSVAR, False, False),
        AccountMeta(CLOCK_SYSVAR, False, False),
        AccountMeta(authority, True, False),
    ]
    return Instruction(UPGRADEABLE_LOADER, struct.pack("<I", 3), metas)


def close_buffer(buffer: Pubkey, recipient: Pubkey, authority: Pubkey) -> Instruction:
    """Give a buffer's rent back."""
    metas = [
        AccountMeta(buffer, False, True),
        AccountMeta(recipient, False, True),
        AccountMeta(authority, True, False),
    ]
    return Instruction(UPGRADEABLE_LOADER, struct.pack("<I", 5), metas)


def extend(program: Pubkey, payer: Pubkey, more_bytes: int) -> Instruction:
    """More room for a longer program; anybody may pay for it."""
    metas = [
        AccountMeta(program_data_address(program), False, True),
        AccountMeta(program, False, True),
        AccountMeta(SYSTEM_PROGRAM, False, False),
        AccountMeta(payer, True, True),
    ]
    return Instruction(UPGRADEABLE_LOADER, struct.pack("<II", 6, more_bytes), metas)


def extend_checked(program: Pubkey, payer: Pubkey, authority: Pubkey, more_bytes: int) -> Instruction:
    """As `extend`, where the cluster wants the upgrade authority's word for it (SIMD-0164)."""
    metas = [
        AccountMeta(program_data_address(program), False, True),
        AccountMeta(program, False, True),
        AccountMeta(authority, True, False),
        AccountMeta(SYSTEM_PROGRAM, False, False),
        AccountMeta(payer, True, True),
    ]
    return Instruction(UPGRADEABLE_LOADER, struct.pack("<II", 9, more_bytes), metas)


def _authority(data: bytes) -> Pubkey | None:
    return Pubkey.from_bytes(data[1:33]) if data[0] else None
