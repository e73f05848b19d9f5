"""`reaver-node try`: one job on this machine, ordered on standard input. `reaver run --local` speaks to it."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from node.cli.session import fail

if TYPE_CHECKING:
    from marketplace.protocol.local_runs import LocalEnd, LocalEvent, LocalOrder
    from node.trial_bench import TrialBench

_PIECE_BYTES: Final = 1 << 16


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("try")(try_job)


def try_job(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where its disk is made.", show_default="the user's state folder")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Address of the container engine (unix:///…).", envvar="DOCKER_HOST", show_default=False),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Only remove what trials left that were killed, and say which.")
    ] = False,
) -> None:
    """Run one job here as an attempt would, for nobody and for no money.

    Standard input is a line with the order (JSON, `marketplace/protocol/local_runs.py`). A line `stop` behind it ends
    the work with its grace, the end of the input at once; whichever way it ends, nothing of it is left. Standard output
    is a line for each event, the last one says how it ended.

    `reaver run --local` does all this for you.
    """
    from node.runtime.errors import EngineError
    from node.trial_bench import TrialBench

    _only_errors()
    bench = TrialBench((folder or _default_folder()).absolute(), engine or None)
    try:
        if clear:
            for name in asyncio.run(bench.clear()):
                typer.echo(name)
            return
        order, said = _read_order()
        end = asyncio.run(_run(bench, order, said))
    except EngineError as error:
        fail(str(error))
    if end is None:
        raise typer.Exit(1)
    _tell(end)


def _default_folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("reaver", appauthor=False) / "local"


def _only_errors() -> None:
    """What an operator should know of this machine is no news to who tries a job."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def _read_order() -> "tuple[LocalOrder, bytes]":
    """The order, and what came behind it already. Nothing buffers standard input: a thread reads on at its end."""
    from pydantic import ValidationError

    from marketplace.protocol.local_runs import LocalOrder

    raw = bytearray()
    while b"\n" not in raw and (piece := os.read(0, _PIECE_BYTES)):
        raw += piece
    line, _, rest = bytes(raw).partition(b"\n")
    try:
        return LocalOrder.model_validate_json(line), rest
    except ValidationError as error:
        # Never the values: secrets are among them.
        places = ", ".join(".".join(str(part) for part in e["loc"]) or "the line" for e in error.errors()[:5])
        fail(f"the order on standard input can't be read at: {places}")


def _tell(event: "LocalEvent") -> None:
    from marketplace.protocol.local_runs import write_event

    sys.stdout.write(write_event(event) + "\n")
    sys.stdout.flush()


async def _run(bench: "TrialBench", order: "LocalOrder", said: bytes) -> "LocalEnd | None":
    """The end of the trial; None where it was cut off because nobody waits for it any more."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    work = asyncio.create_task(bench.run(order, _tell, stopped))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, work.cancel)
    threading.Thread(target=_listen, args=(loop, said, stopped.set, work.cancel), daemon=True).start()
    try:
        return await work
    except (asyncio.CancelledError, BrokenPipeError):
        return None


def _listen(
    loop: asyncio.AbstractEventLoop, said: bytes, stop: Callable[[], None], cut_off: Callable[[], object]
) -> None:
    """Reads what comes behind the order. A thread, because standard input may be any kind of file."""
    from marketplace.protocol.local_runs import STOP_WORD

    with contextlib.suppress(RuntimeError):  # the loop is closed: all is over
        while True:
            *lines, said = said.split(b"\n")
            if STOP_WORD.encode() in lines:
                loop.call_soon_threadsafe(stop)
            piece = os.read(0, _PIECE_BYTES)
            if not piece:
                break
            said += piece
        loop.call_soon_threadsafe(cut_off)
