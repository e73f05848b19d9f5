"""Reading from another process while signals are handled."""

import contextlib
import os
import selectors
import signal
from collections.abc import Iterator
from typing import IO, Final

_PIECE_BYTES: Final = 1 << 16


def read_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines as they come, the last one perhaps without its end. Only for the main thread.

    A signal's handler runs at once, whenever it comes: one that comes just before a plain read blocks would be handled
    when that read returns, and what the signal was to stop may never write again.
    """
    rest = b""
    with _woken_by_signals() as woken, selectors.DefaultSelector() as either:
        either.register(stream, selectors.EVENT_READ)
        either.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in either.select()}
            if woken in ready:
                os.read(woken, _PIECE_BYTES)
            if stream.fileno() not in ready:
                continue
            piece = os.read(stream.fileno(), _PIECE_BYTES)
            if not piece:
                break
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[int]:
    """A descriptor that can be read once a signal has come: the interpreter writes to it as it takes the signal."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    before = signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    try:
        yield woken
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wakes)
