"""Public or not: every range of IANA's special-purpose registries, and every way to write an IPv4 address in IPv6."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.destinations import Refusal, is_loopback, refusal_of

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.0",
          "192.0.1.1", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "::ffff:8.8.8.8",
          "64:ff9b::808:808", "2001:4860:4860::8888", "2003::1"]  # fmt: skip
REFUSED = {
    "0.0.0.0": Refusal.RESERVED,
    "0.255.255.255": Refusal.RESERVED,
    "10.0.0.1": Refusal.PRIVATE,
    "100.64.0.1": Refusal.CARRIER,
    "100.100.100.200": Refusal.CARRIER,
    "100.127.255.255": Refusal.CARRIER,
    "127.0.0.1": Refusal.LOOPBACK,
    "127.255.255.254": Refusal.LOOPBACK,
    "169.254.169.254": Refusal.LINK_LOCAL,
    "172.16.0.1": Refusal.PRIVATE,
    "172.31.255.255": Refusal.PRIVATE,
    "192.0.0.192": Refusal.RESERVED,
    "192.0.2.1": Refusal.RESERVED,
    "192.88.99.1": Refusal.TRANSITION,
    "192.168.1.1": Refusal.PRIVATE,
    "198.18.0.1": Refusal.RESERVED,
    "198.19.255.255": Refusal.RESERVED,
    "198.51.100.7": Refusal.RESERVED,
    "203.0.113.7": Refusal.RESERVED,
    "224.0.0.1": Refusal.MULTICAST,
    "239.255.255.255": Refusal.MULTICAST,
    "240.0.0.1": Refusal.RESERVED,
    "255.255.255.255": Refusal.RESERVED,
    "168.63.129.16": Refusal.METADATA,
    "::": Refusal.TRANSITION,
    "::1": Refusal.LOOPBACK,
    "::7f00:1": Refusal.TRANSITION,
    "::8.8.8.8": Refusal.TRANSITION,
    "::ffff:127.0.0.1": Refusal.LOOPBACK,
    "::ffff:a9fe:a9fe": Refusal.LINK_LOCAL,
    "::ffff:10.0.0.1": Refusal.PRIVATE,
    "64:ff9b::7f00:1": Refusal.LOOPBACK,
    "64:ff9b::a9fe:a9fe": Refusal.LINK_LOCAL,
    "64:ff9b:1::808:808": Refusal.TRANSITION,
    "100::1": Refusal.RESERVED,
    "2001::1": Refusal.RESERVED,
    "2001:2::1": Refusal.RESERVED,
    "2001:10::1": Refusal.RESERVED,
    "2001:20::1": Refusal.RESERVED,
    "2001:db8::1": Refusal.RESERVED,
    "2002:7f00:1::": Refusal.TRANSITION,
    "2002:808:808::1": Refusal.TRANSITION,
    "3fff::1": Refusal.RESERVED,
    "5f00::1": Refusal.RESERVED,
    "fc00::1": Refusal.PRIVATE,
    "fd00:ec2::254": Refusal.PRIVATE,
    "fe80::1": Refusal.LINK_LOCAL,
    "fe80::1%eth0": Refusal.LINK_LOCAL,
    "2606:4700:4700::1111%eth0": Refusal.LINK_LOCAL,
    "fec0::1": Refusal.PRIVATE,
    "ff02::1": Refusal.MULTICAST,
    "4000::1": Refusal.RESERVED,
}
NO_ADDRESS = ["", "localhost", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.01", " 127.0.0.1", "1.2.3.4.5",
              "::1::", "127.0.0.1/8"]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_internet_is_gone_to(address):
    assert refusal_of(address) is None


@pytest.mark.parametrize(("address", "why"), REFUSED.items())
def test_every_other_range_is_refused_with_its_reason(address, why):
    assert refusal_of(address) is why


@pytest.mark.parametrize("text", NO_ADDRESS)
def test_what_is_no_plain_address_is_refused(text):
    assert refusal_of(text) is Refusal.UNREADABLE


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_itself(address):
    number = int(address)
    for hidden in (f"::ffff:{address}", str(ipaddress.IPv6Address((0x64FF9B << 96) | number))):
        assert refusal_of(hidden) is refusal_of(str(address))


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_or_reserved_is_gone_to(address):
    """An independent table: what the standard library holds for not global, we refuse."""
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped else address
    if not inner.is_global or inner.is_multicast:
        assert refusal_of(str(address)) is not None


def test_loopback_is_known_in_every_form():
    assert all(is_loopback(address) for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"))
    assert not any(is_loopback(address) for address in ("0.0.0.0", "::", "10.0.0.1", "localhost"))
