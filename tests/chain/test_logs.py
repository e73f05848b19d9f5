import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from marketplace.chain.logs import read_events
from marketplace.chain.program import AnchorCodec
from tests.chain import golden_program

OURS = Pubkey.from_string("5qwExNyh26kwngLGHpXEPD4PgoiZWia8neGpQRPJUSyN")
OTHER = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
CODEC = AnchorCodec(OURS)
GOLDEN = json.loads(golden_program.FILE.read_text())["events"]


def data(name: str) -> str:
    return "Program data: " + base64.b64encode(bytes.fromhex(GOLDEN[name])).decode()


def frame(program: Pubkey, depth: int, *inside: str, end: str = "success") -> list[str]:
    return [f"Program {program} invoke [{depth}]", *inside, f"Program {program} {end}"]


def names(lines: list[str]) -> list[str]:
    return [type(event).__name__ for event in read_events(lines, CODEC).events]


def test_events_of_our_frame_are_read_in_order() -> None:
    lines = frame(OURS, 1, data("EscrowOpened"), "Program log: hello", data("Assigned"))
    assert names(lines) == ["EscrowOpenedEvent", "AssignedEvent"]
    assert not read_events(lines, CODEC).truncated


def test_events_go_on_after_an_inner_call() -> None:
    inner = frame(OTHER, 2, "Program log: Instruction: Transfer", data("Withdrawn"))
    lines = frame(
        OURS, 1, data("Settled"), *inner, f"Program {OURS} consumed 1 of 2 compute units", data("EscrowClosed")
    )
    assert names(lines) == ["SettledEvent", "EscrowClosedEvent"], "what the inner program logs is not ours"


def test_each_event_has_the_call_of_ours_that_emitted_it() -> None:
    lines = [
        *frame(OTHER, 1, *frame(OURS, 2, data("Settled"))),
        *frame(OURS, 1, *frame(OTHER, 2, *frame(OURS, 3, data("Settled"))), data("EscrowClosed")),
        *frame(OURS, 1),
        *frame(OURS, 1, data("Settled"), data("EscrowClosed")),
    ]
    assert read_events(lines, CODEC).calls == (None, None, 0, 2, 2)


def test_events_of_our_program_called_by_another_are_ours() -> None:
    assert names(frame(OTHER, 1, *frame(OURS, 2, data("Settled")))) == ["SettledEvent"]


@pytest.mark.parametrize(
    "lines",
    [
        frame(OTHER, 1, data("Settled")),
        [data("Settled")],
        frame(OTHER, 1, f"Program log: Program {OURS} invoke [2]", data("Settled")),
        frame(OTHER, 1, f"Program log: \nProgram {OURS} invoke [2]\n", data("Settled")),
        [*frame(OURS, 1), data("Settled")],
        frame(OURS, 1, data("Settled").replace("Program data: ", "Program log: ")),
        frame(OURS, 1, data("Settled") + " " + data("Settled").removeprefix("Program data: ")),
        frame(OURS, 1, data("Settled")[:-8]),
    ],
)
def test_a_lookalike_is_no_event(lines: list[str]) -> None:
    assert names(lines) == []


def test_a_failed_inner_call_leaves_the_stack() -> None:
    inner = frame(OURS, 2, data("Settled"), end="failed: custom program error: 0x1770")
    lines = frame(OTHER, 1, *inner, data("EscrowClosed"))
    assert names(lines) == ["SettledEvent"], "and what the caller logs afterwards is not ours"


def test_a_cut_log_gives_what_it_has_and_says_so() -> None:
    log = read_events([f"Program {OURS} invoke [1]", data("Settled"), "Log truncated", data("EscrowClosed")], CODEC)
    assert len(log.events) == 1
    assert log.truncated


def test_a_log_that_does_not_add_up_is_read_no_further() -> None:
    for wrong in (f"Program {OURS} invoke [3]", f"Program {OTHER} success"):
        log = read_events([f"Program {OURS} invoke [1]", data("Settled"), wrong, data("EscrowClosed")], CODEC)
        assert len(log.events) == 1
        assert log.truncated


def test_an_event_of_a_later_version_is_counted() -> None:
    line = "Program data: " + base64.b64encode(b"unknown!" + bytes(9)).decode()
    assert read_events(frame(OURS, 1, line, data("Settled")), CODEC).unknown == 1


PIECES = st.sampled_from(
    [
        data("Settled"), f"Program {OURS} invoke [1]", f"Program {OTHER} invoke [1]", f"Program {OTHER} invoke [2]",
        f"Program {OURS} success", f"Program {OTHER} success", f"Program {OTHER} failed: x", "Program data: ???", "",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12))
def test_no_event_is_read_while_another_program_runs(lines: list[str]) -> None:
    """An independent reading: each data line's frame by a plain stack, valid so far or not at all."""
    stack: list[str] = []
    count = 0
    for line in lines:
        words = line.split()
        if len(words) == 4 and words[2] == "invoke":
            stack.append(words[1])
            if words[3] != f"[{len(stack)}]":
                break
        elif len(words) >= 3 and words[2] in {"success", "failed:"}:
            if not stack or stack.pop() != words[1]:
                break
        elif line == data("Settled") and stack and stack[-1] == str(OURS):
            count += 1
    assert len(read_events(lines, CODEC).events) == count
