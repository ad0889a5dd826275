"""Which addresses are the public internet. Our own list: `ipaddress.is_global` calls NAT64, 6to4 and
IPv4-compatible forms of private addresses global.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_NOT_PUBLIC_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carriers' own, and some clouds' metadata
            "127.0.0.0/8",  # this machine
            "169.254.0.0/16",  # link-local, metadata of clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: carries an IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
# Never reached, not even where the operator allows private addresses: they give away keys of the machine.
_METADATA = (
    IPv4Network("169.254.0.0/16"),
    IPv4Network("100.100.100.200/32"),
    IPv4Network("192.0.0.192/32"),
    IPv6Network("fe80::/10"),
    IPv6Network("fd00:ec2::254/128"),
    IPv6Network("fd20:ce::254/128"),
)
_ANYWHERE = (IPv4Network("0.0.0.0/8"), IPv4Network("224.0.0.0/3"), IPv6Network("ff00::/8"))


def is_public(address: Address) -> bool:
    """Whether the address is a host of the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address in _NAT64:  # where DNS64 is at work every IPv4 host looks like this
        return is_public(_last_32_bits(address))
    return (
        address in _PUBLIC_6
        and address.scope_id is None
        and not any(address in network for network in _NOT_PUBLIC_6)
    )


def is_for_operators(address: Address) -> bool:
    """Whether a service that the operator runs privately may be there: any host but metadata services."""
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        return is_for_operators(_last_32_bits(address))
    refused = (*_METADATA, *_ANYWHERE)
    return not any(address.version == each.version and address in each for each in refused)


def _last_32_bits(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)
