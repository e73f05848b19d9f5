"""What `reaver run --local` and `reaver-node try` say to each other: one order in, lines of events out.

The order carries the very spec that an escrow's hash would stand for, so what is tried here is what a node would run.
Standard input stays open behind the order: its end means that nobody waits for the run any more.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from marketplace.protocol.terms import JobSpec

STOP_WORD: Final = "stop"
"""A line behind the order: end the work as a cancel does, with its grace."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalOrder(_Message):
    """One run.

    input_text: content of an input that is text or JSON. input_file: a file of this machine in its place.
    outputs: an empty or absent folder that takes what the work leaves in /outputs; None counts it and lets it go.
    """

    spec: JobSpec
    input_text: str | None = Field(default=None, repr=False)
    input_file: str | None = None
    outputs: str | None = None


class LocalNote(_Message):
    """Something that is otherwise than on a node, or that a renter should know."""

    kind: Literal["note"] = "note"
    text: str


class LocalStage(_Message):
    """How far it is. image: by its digest, once it is known."""

    kind: Literal["stage"] = "stage"
    stage: Literal["pulling", "running", "ended"]
    image: str | None = None


class LocalLine(_Message):
    """A line of output. stream: 1 stdout, 2 stderr, 3 what the node adds (`protocol.control.LogLine`)."""

    kind: Literal["line"] = "line"
    stream: int = Field(ge=1, le=3)
    text: str


class LocalProgress(_Message):
    """What the work says of itself, 0 to 100."""

    kind: Literal["progress"] = "progress"
    percent: int = Field(ge=0, le=100)


class LocalOutput(_Message):
    """A file that was left in /outputs. path: below it."""

    path: str
    size: int


class LocalEnd(_Message):
    """The last line. reason: code of `domain.reasons`. exit_code: None where it never ran. ran_ms: since ready."""

    kind: Literal["end"] = "end"
    reason: str
    exit_code: int | None = None
    ran_ms: int = 0
    detail: str | None = None
    outputs: tuple[LocalOutput, ...] = Field(default=(), strict=False)


LocalEvent = LocalNote | LocalStage | LocalLine | LocalProgress | LocalEnd

_EVENT: Final[TypeAdapter[LocalEvent]] = TypeAdapter(Annotated[LocalEvent, Field(discriminator="kind")])


def write_event(event: LocalEvent) -> str:
    """One line, without its end."""
    return event.model_dump_json(exclude_none=True)


def read_event(line: str | bytes) -> LocalEvent:
    """The event of a line. Raises ValueError."""
    return _EVENT.validate_json(line)
