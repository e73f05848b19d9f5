"""What all instructions are."""

from dataclasses import dataclass
from typing import Any, ClassVar, Final


class ProgramInstruction:
    """Base of all instructions: `accounts` and `args` of the kinds named by ACCOUNTS and ARGS."""

    __slots__ = ()
    name: ClassVar[str]
    ACCOUNTS: ClassVar[type[Any]]
    ARGS: ClassVar[type[Any]]
    accounts: Any
    args: Any


@dataclass(frozen=True, slots=True)
class NoArgs:
    """The instruction takes no arguments."""


NO_ARGS: Final = NoArgs()
