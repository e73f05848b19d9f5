"""Ports for processes that are killed and started again on them."""

import socket
from pathlib import Path

import pytest

from scripts import processes
from scripts.processes import free_ports

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not OUTGOING.exists(), reason="another kernel")
def test_they_stand_apart_and_the_kernel_gives_none_of_them_to_a_connection() -> None:
    firsts = free_ports(50, in_a_row=3)
    ports = [first + place for first in firsts for place in range(3)]
    assert len(set(ports)) == 150
    assert max(ports) < int(OUTGOING.read_text().split()[0])


def test_a_row_with_a_taken_port_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = free_ports(1, in_a_row=5)
    offers = iter([first, first + 3])
    monkeypatch.setattr(processes.secrets, "randbelow", lambda _most: next(offers) - processes.FIRST_PORT)
    with socket.create_server(("127.0.0.1", first + 1)):
        assert free_ports(1) == [first + 3]
