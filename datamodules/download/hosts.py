"""Which hosts an address from item data may name: those on the public internet, by every address that they have."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from contextlib import suppress

import httpx

from datamodules.download.retry import RefusedError

__all__ = ["checked_host", "is_public"]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_6TO4 = ipaddress.ip_network("2002::/16")
_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given to hosts on the internet; the rest is local, a group, or kept for later."""
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "2001::/23",
            "2001:db8::/32",
            "3fff::/20",
        ),
    )
)
"""Protocols, relays, benchmarks and examples (IANA's registries of special-purpose addresses)."""


def is_public(address: str) -> bool:
    """Whether an IP address is that of a host on the public internet.

    Groups (multicast), private and local networks, reserved and unspecified addresses are not; an address that carries
    one of IPv4 (NAT64, 6to4, mapped) is what that one is.
    """
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(host, ipaddress.IPv6Address):
        inner = host.ipv4_mapped or (host.sixtofour if host in _6TO4 else None)
        if host in _NAT64:
            inner = ipaddress.IPv4Address(int(host) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if host not in _UNICAST or host.scope_id:
            return False
    if host.is_multicast or host.is_reserved or host.is_unspecified or host.is_loopback or host.is_link_local:
        return False
    return host.is_global and not any(host in network for network in _SPECIAL if network.version == host.version)


async def checked_host(url: str, allow_private: bool) -> str:
    """The host of an address from item data, which is untrusted.

    Args:
        url: the address.
        allow_private: also hosts outside the public internet.

    Raises:
        RefusedError: unless it is http(s) without credentials, to a host on the public internet.
    """
    parts = httpx.URL(url)
    if parts.scheme not in ("http", "https") or not parts.host:
        raise RefusedError("address is neither http nor https")
    if parts.userinfo:
        raise RefusedError("address with a password")
    if not allow_private and not await _resolves_to_public(parts.host):
        raise RefusedError("host in a private network (data.pictures.allow_private_hosts)")
    return parts.host


async def _resolves_to_public(host: str) -> bool:
    """Whether all addresses of a host are public; an unknown host fails when it is asked."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def look() -> None:
        try:
            addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        except (OSError, UnicodeError):
            addresses = set()
        public = all(map(is_public, addresses))
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(public))

    # Not the loop's own threads: it would wait for a name server that does not answer before it ends.
    threading.Thread(target=look, daemon=True, name="look-up").start()
    return await answer
