"""Which addresses a URL from a caller may lead to: public ones, and the hosts that the owner allows."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..protocol.spelling import host_of

# Ranges that some Python versions call global, but that lead to arbitrary IPv4 addresses or to nobody.
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            *("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10"),
            *("3fff::/20", "5f00::/16", "192.88.99.0/24"),
        ),
    )
)
CONNECT_SECONDS, READ_SECONDS = 10.0, 20.0
NEEDED_AIOHTTP = (3, 12)  # TCPConnector(socket_factory=...)


class AddressRefused(PermissionError):
    """The URL leads to an address that is not public; nothing was sent to it."""


class Names(AbstractResolver):
    """Looks names up in threads of their own: names that nobody answers for must not hold up those that write files."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(32, thread_name_prefix="endpoints-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        ask = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False)


@dataclass(frozen=True)
class Guard:
    """Opens the sockets of one session, so it sees every address before a connection, however it was found.

    host: the URL's, for messages. is_allowed: the owner listed this host, so any address will do.
    """

    host: str
    is_allowed: bool

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self.is_allowed and not is_public(address[0]):
            raise AddressRefused(f"{self.host} does not lead to a public address")
        return socket.socket(family, kind, protocol)


def is_public(address: str) -> bool:
    """Whether a text is an IP address of the public internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    if not found.is_global or found.is_multicast or found.is_reserved:
        return False
    return not any(found in network for network in NOT_PUBLIC if network.version == found.version)


def is_allowed(url: URL, allowed_hosts: Collection[str]) -> bool:
    """Whether the owner's list names the URL's host, alone or with the URL's port."""
    for entry in allowed_hosts:
        is_bare_ipv6 = entry.count(":") > 1 and not entry.startswith("[")
        allowed = URL(f"http://[{entry}]" if is_bare_ipv6 else f"http://{entry}")
        same_port = allowed.explicit_port in (None, url.port)
        if same_port and host_of(allowed) == host_of(url):
            return True
    return False


def guarded_session(
    url: URL, allowed_hosts: Collection[str], seconds: float, resolver: AbstractResolver
) -> aiohttp.ClientSession:
    """A session for one request to one URL, without redirects: `session.get(url, allow_redirects=False)`.

    It only connects to public addresses, unless the owner allows the URL's host: otherwise the request raises a
    ClientConnectorError whose `os_error` is AddressRefused. It uses no proxy, keeps no cookies, decompresses nothing.
    """
    connector = aiohttp.TCPConnector(
        socket_factory=Guard(url.host or "", is_allowed(url, allowed_hosts)),
        resolver=resolver,
        use_dns_cache=False,
        force_close=True,
    )
    timeout = aiohttp.ClientTimeout(
        total=seconds, sock_connect=min(seconds, CONNECT_SECONDS), sock_read=min(seconds, READ_SECONDS)
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"User-Agent": "fast-animatediff", "Accept-Encoding": "identity"},
    )


def check_aiohttp() -> None:
    """Raises ValueError if the installed aiohttp does not let us choose which addresses to connect to."""
    version = re.match(r"(\d+)\.(\d+)", aiohttp.__version__)
    if version is None or tuple(map(int, version.groups())) < NEEDED_AIOHTTP:
        needed = ".".join(map(str, NEEDED_AIOHTTP))
        raise ValueError(
            f"The endpoints need aiohttp {needed} or newer; this is {aiohttp.__version__}. Run: pip install -U aiohttp"
        )
