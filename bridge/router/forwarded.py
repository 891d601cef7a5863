"""PURE. Who is the client behind a proxy: X-Forwarded-For and X-Forwarded-Proto, believed only from trusted peers.

Each proxy appends the address that it saw, so the list is read from its right end: the client is the first address
there that is not itself a trusted proxy. Whatever stands further left was written by somebody nobody vouches for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS = 64  #: addresses that are looked at; a longer list is not believed at all


class Trusted:
    """The peers whose forwarded headers are believed.

    Args:
        peers: addresses, networks, "unix" (every peer of a unix socket) or "*" (everyone).
    """

    __slots__ = ("_everyone", "_networks", "_unix", "trusts")

    def __init__(self, peers: Iterable[str]) -> None:
        names = set(peers)
        self._everyone = "*" in names
        self._unix = "unix" in names
        self._networks: list[_Network] = [
            ipaddress.ip_network(name, strict=False) for name in names if name not in ("*", "unix")
        ]
        self.trusts = lru_cache(maxsize=1024)(self._trusts)

    def _trusts(self, host: str) -> bool:
        if self._everyone:
            return True
        if not host:
            return self._unix
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def client(self, value: bytes) -> str | None:
        """The client's address in an X-Forwarded-For value, or None when there is none that can be believed."""
        hops = [hop.strip() for hop in value.decode("latin-1").split(",")]
        if len(hops) > MAX_HOPS:
            return None
        found = None
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                break
            found = address
            if not self._everyone and not self.trusts(address):
                break
        return found


def _address(hop: str) -> str | None:
    # Some proxies append the TCP port number: 192.0.2.1:4711, [2001:db8::1]:4711.
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    if "%" in hop:
        return None  # a scope means nothing to anybody else, and may hold any character
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return None


def is_https(value: bytes) -> bool | None:
    """What an X-Forwarded-Proto value says: True for https, False for http, None for anything else."""
    scheme = value.rpartition(b",")[2].strip().lower()
    return {b"https": True, b"http": False, b"wss": True, b"ws": False}.get(scheme)
