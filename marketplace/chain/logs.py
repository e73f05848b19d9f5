"""Events out of a transaction's log: those of our program's own frame, and nothing that looks like them.

Any program may log any bytes, our event's among them, so a data line counts only while our program is on top
of the invoke stack. The runtime cuts a transaction's log at about 10 KB; what is missing then is read from
the accounts, which are the truth anyway.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from solders.pubkey import Pubkey

from marketplace.chain.events import ProgramEvent

_INVOKE: Final = re.compile(r"Program ([1-9A-HJ-NP-Za-km-z]{32,44}) invoke \[(\d+)\]")
_END: Final = re.compile(r"Program ([1-9A-HJ-NP-Za-km-z]{32,44}) (?:success|failed: .*)", re.DOTALL)
_DATA_PREFIX: Final = "Program data: "
_TRUNCATED: Final = "Log truncated"


class EventDecoder(Protocol):
    """What reading a log needs of the program's bytes; `AnchorCodec` has it."""

    program: Pubkey

    def event(self, data: bytes) -> ProgramEvent | None: ...

    def instruction_name(self, data: bytes) -> str | None: ...


@dataclass(frozen=True, slots=True)
class EventLog:
    """The events of one transaction, in order.

    calls: for each event, which of our program's own instructions in the transaction emitted it, from 0; None inside
    of another program's.
    truncated: the log was cut or doesn't add up, so later events may be missing.
    unknown: data lines of our own frame that are none of this version's events.
    """

    events: tuple[ProgramEvent, ...]
    calls: tuple[int | None, ...]
    truncated: bool
    unknown: int


def read_events(lines: Sequence[str], decoder: EventDecoder) -> EventLog:
    """The events of `decoder.program` in a transaction's log lines.

    The stack of invocations is followed line by line; where it doesn't add up, reading stops, since no later
    line can be attributed to anybody.
    """
    program = str(decoder.program)
    stack: list[str] = []
    events: list[ProgramEvent] = []
    calls: list[int | None] = []
    unknown, call, cut = 0, -1, False
    for line in lines:
        if line == _TRUNCATED:
            cut = True
            break
        if started := _INVOKE.fullmatch(line):
            stack.append(started[1])
            call += stack == [program]
            if int(started[2]) != len(stack):
                cut = True
                break
        elif ended := _END.fullmatch(line):
            if not stack or stack.pop() != ended[1]:
                cut = True
                break
        elif line.startswith(_DATA_PREFIX) and stack and stack[-1] == program:
            event = _event(line.removeprefix(_DATA_PREFIX), decoder)
            if event is None:
                unknown += 1
            else:
                events.append(event)
                calls.append(call if len(stack) == 1 else None)
    return EventLog(tuple(events), tuple(calls), truncated=cut or bool(stack), unknown=unknown)


def _event(text: str, decoder: EventDecoder) -> ProgramEvent | None:
    """One slice, as the program logs it; several slices on a line are nobody's event."""
    try:
        return decoder.event(base64.b64decode(text, validate=True))
    except binascii.Error:
        return None
