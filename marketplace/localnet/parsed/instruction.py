"""What a parser of instructions is given, and the helpers all of them share: accounts in order, data read in order."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from solders.pubkey import Pubkey


class NotParsed(Exception):
    """The instruction is none of those that Agave shows in words. `instruction_json` catches it and shows its bytes."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """An instruction in words. type None: what is shown is `info` alone (a memo's text)."""

    type: str | None
    info: Any

    def as_json(self) -> Any:
        return self.info if self.type is None else {"type": self.type, "info": self.info}


class Accounts:
    """An instruction's accounts, by position."""

    def __init__(self, addresses: Sequence[Pubkey]) -> None:
        self._addresses = addresses

    def __len__(self) -> int:
        return len(self._addresses)

    def need(self, count: int) -> None:
        """Raises NotParsed when there are fewer."""
        if len(self._addresses) < count:
            raise NotParsed

    def __getitem__(self, index: int) -> str:
        if index >= len(self._addresses):
            raise NotParsed
        return str(self._addresses[index])

    def since(self, index: int) -> list[str]:
        return [str(address) for address in self._addresses[index:]]


_NUMBERS: Final = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I"), 8: struct.Struct("<Q")}


class Data:
    """An instruction's data, read from the front; raises NotParsed at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise NotParsed
        self._at += count
        return taken

    def u8(self) -> int:
        return self._number(1)

    def u16(self) -> int:
        return self._number(2)

    def u32(self) -> int:
        return self._number(4)

    def u64(self) -> int:
        return self._number(8)

    def address(self) -> str:
        return str(Pubkey.from_bytes(self.take(32)))

    def text(self) -> str:
        """A string with its length in eight bytes before it."""
        try:
            return self.take(self.u64()).decode()
        except UnicodeDecodeError:
            raise NotParsed from None

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def _number(self, size: int) -> int:
        (value,) = _NUMBERS[size].unpack(self.take(size))
        return int(value)
