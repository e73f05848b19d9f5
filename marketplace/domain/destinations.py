"""Which network addresses a request for somebody else may go to: only those that belong to the public internet.

A webhook's URL, an input's URL and an S3 endpoint are chosen by a renter; the machine that fetches them stands in its
operator's network and can reach what the renter can't. So the rule names what is allowed, and the rest is refused.
"""

import ipaddress
from collections.abc import Sequence
from enum import Enum
from typing import Final

IPv4 = ipaddress.IPv4Address
IPv6 = ipaddress.IPv6Address


class Reach(Enum):
    """How far requests for somebody else may go."""

    PUBLIC = "public"
    """https to public addresses only."""
    LOOPBACK_TOO = "loopback_too"
    """Also this machine, by http as well, where the URL says so in letters; for development and tests."""


class Refusal(Enum):
    """Why an address is not gone to. The value completes "this address …"."""

    UNREADABLE = "is not an IP address"
    LOOPBACK = "is the machine itself"
    PRIVATE = "belongs to a private network"
    LINK_LOCAL = "is valid on one link only; cloud metadata services are there"
    CARRIER = "is shared behind a carrier's address translation"
    MULTICAST = "is multicast"
    RESERVED = "is reserved, documentation or otherwise not of the public internet"
    TRANSITION = "hides another address in a retired or local transition form"
    METADATA = "is a cloud provider's internal service"


_V4: Final[Sequence[tuple[str, Refusal]]] = (
    ("0.0.0.0/8", Refusal.RESERVED),
    ("10.0.0.0/8", Refusal.PRIVATE),
    ("100.64.0.0/10", Refusal.CARRIER),
    ("127.0.0.0/8", Refusal.LOOPBACK),
    ("169.254.0.0/16", Refusal.LINK_LOCAL),
    ("172.16.0.0/12", Refusal.PRIVATE),
    ("192.0.0.0/24", Refusal.RESERVED),
    ("192.0.2.0/24", Refusal.RESERVED),
    ("192.31.196.0/24", Refusal.RESERVED),
    ("192.52.193.0/24", Refusal.RESERVED),
    ("192.88.99.0/24", Refusal.TRANSITION),
    ("192.168.0.0/16", Refusal.PRIVATE),
    ("192.175.48.0/24", Refusal.RESERVED),
    ("198.18.0.0/15", Refusal.RESERVED),
    ("198.51.100.0/24", Refusal.RESERVED),
    ("203.0.113.0/24", Refusal.RESERVED),
    ("224.0.0.0/4", Refusal.MULTICAST),
    ("240.0.0.0/4", Refusal.RESERVED),
    # Azure's wire server: looks public, answers inside each of its machines.
    ("168.63.129.16/32", Refusal.METADATA),
)
"""Source: IANA's registry of IPv4 special-purpose addresses, and the multicast and reserved blocks."""

_V6: Final[Sequence[tuple[str, Refusal]]] = (
    ("2001::/23", Refusal.RESERVED),  # Teredo, ORCHID, benchmarks and other protocol assignments
    ("2001:db8::/32", Refusal.RESERVED),
    ("2002::/16", Refusal.TRANSITION),  # 6to4
    ("2620:4f:8000::/48", Refusal.RESERVED),
    ("3fff::/20", Refusal.RESERVED),
)
"""Exceptions inside the global unicast block. Source: IANA's registry of IPv6 special-purpose addresses."""

_V6_OUTSIDE: Final[Sequence[tuple[str, Refusal]]] = (
    ("::1/128", Refusal.LOOPBACK),
    ("::/96", Refusal.TRANSITION),  # unspecified, and the retired form that is "compatible" with IPv4
    ("64:ff9b:1::/48", Refusal.TRANSITION),
    ("fc00::/7", Refusal.PRIVATE),
    ("fec0::/10", Refusal.PRIVATE),
    ("fe80::/10", Refusal.LINK_LOCAL),
    ("ff00::/8", Refusal.MULTICAST),
)
"""Names for the best known of what is not global unicast; all of it is refused, named or not."""

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

_V4_NETWORKS: Final = tuple((ipaddress.IPv4Network(text), refusal) for text, refusal in _V4)
_V6_NETWORKS: Final = tuple((ipaddress.IPv6Network(text), refusal) for text, refusal in _V6)
_V6_OUTSIDE_NETWORKS: Final = tuple((ipaddress.IPv6Network(text), refusal) for text, refusal in _V6_OUTSIDE)


def refusal_of(address: str) -> Refusal | None:
    """Why no request may go to `address`; None for an address of the public internet.

    address: as text, IPv4 in four decimal parts or IPv6. An IPv4 address inside an IPv6 one (mapped, or the
    well-known NAT64 prefix) is judged as itself, for that is where the connection would end.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return Refusal.UNREADABLE
    if isinstance(parsed, IPv4):
        return _refusal_v4(parsed)
    if parsed.scope_id is not None:
        # A zone makes sense on a link only, and a name server has no business answering with one.
        return Refusal.LINK_LOCAL
    if parsed.ipv4_mapped is not None:
        return _refusal_v4(parsed.ipv4_mapped)
    if parsed in _NAT64:
        return _refusal_v4(IPv4(int(parsed) & 0xFFFF_FFFF))
    return _refusal_v6(parsed)


def is_loopback(address: str) -> bool:
    """Whether `address`, as text, is this machine; also an IPv4 loopback address mapped into IPv6."""
    return refusal_of(address) is Refusal.LOOPBACK


def _refusal_v4(address: IPv4) -> Refusal | None:
    return next((refusal for network, refusal in _V4_NETWORKS if address in network), None)


def _refusal_v6(address: IPv6) -> Refusal | None:
    if address in _GLOBAL_UNICAST:
        return next((refusal for network, refusal in _V6_NETWORKS if address in network), None)
    named = (refusal for network, refusal in _V6_OUTSIDE_NETWORKS if address in network)
    return next(named, Refusal.RESERVED)
