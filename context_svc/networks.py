"""Where a call comes from: the address that the edge saw, as a network of one subscriber."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

LOCAL = ""
"""The network of a call that came past the edge, from this machine."""


def network_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The network that a call came from: an IPv4 address, an IPv6 /64, or LOCAL.

    Only the rightmost entry of x-forwarded-for is the edge's own; everything left of it is the client's word.
    """
    entries = [value for key, value in metadata if key == "x-forwarded-for" and isinstance(value, str)]
    return _narrowed(entries[-1].rpartition(",")[2].strip(), 32, 64) if entries else LOCAL


def shortened(network: str) -> str:
    """A network as it is kept beside a device: an IPv4 /24 or an IPv6 /48."""
    return _narrowed(network.partition("/")[0], 24, 48)


def _narrowed(address: str, v4_bits: int, v6_bits: int) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return LOCAL
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    bits = v4_bits if parsed.version == 4 else v6_bits
    whole = ipaddress.ip_network(f"{parsed}/{bits}", strict=False)
    return str(whole.network_address) if bits == 32 else str(whole)
