"""Reading from another process while signals are handled."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from marketplace.cli.reaver.signalled import read_lines

SIGNALS = 20_000


@pytest.fixture
def handled() -> Iterator[threading.Semaphore]:
    handled = threading.Semaphore(0)
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.release())
    yield handled
    signal.signal(signal.SIGUSR1, before)


def test_lines_are_whole_however_they_arrive() -> None:
    read, write = os.pipe()
    pieces = [b"one\ntw", b"o\n\nthr", b"ee"]

    def send() -> None:
        for piece in pieces:
            os.write(write, piece)
        os.close(write)

    with os.fdopen(read, "rb") as stream:
        sending = threading.Thread(target=send)
        sending.start()
        assert list(read_lines(stream)) == [b"one\n", b"two\n", b"\n", b"three"]
        sending.join()


def test_a_signal_is_handled_at_once_though_nothing_is_written(handled: threading.Semaphore) -> None:
    """Each is sent as the one before was handled: in the very moment in which the read begins to wait again."""
    read, write = os.pipe()
    main, missed = threading.main_thread().ident, []

    def send() -> None:
        assert main is not None
        for number in range(SIGNALS):
            signal.pthread_kill(main, signal.SIGUSR1)
            if not handled.acquire(timeout=60):
                missed.append(number)
                break
        os.close(write)

    with os.fdopen(read, "rb") as stream:
        sending = threading.Thread(target=send)
        sending.start()
        assert list(read_lines(stream)) == []
        sending.join()
    assert missed == []
