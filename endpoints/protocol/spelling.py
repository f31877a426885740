"""Addresses of servers: what is one, and when two spellings mean the same."""

from __future__ import annotations

import ipaddress
import re

from yarl import URL

ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
# The last two are one address, as versions of Python write it.
ANY_LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:7f00:1")


def parsed(text: str) -> URL | None:
    """The URL, if it is one."""
    try:
        return URL(text)
    except (ValueError, TypeError):
        return None


def is_address(text: str) -> bool:
    """Whether it is an address such as http://127.0.0.1:8188, perhaps with a path."""
    return ADDRESS.fullmatch(text) is not None and parsed(text) is not None


def host_of(url: URL | None) -> str:
    """The host's name in small letters, without a dot at its end, or its IP address in its usual form; "" if there is none."""
    name = ((url and url.host) or "").lower().rstrip(".")
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        return name


def origin(url: URL) -> str:
    """Scheme, host and port, in one spelling. All names of this machine itself are one."""
    host = host_of(url)
    return f"{url.scheme}://{'localhost' if host in ANY_LOOPBACK else host}:{url.port}"


def identity(address: str) -> str:
    """Equal for all spellings of an address, so that one ComfyUI is not taken for two. What is no address stays as it is."""
    url = parsed(address)
    return f"{origin(url)}{url.raw_path.rstrip('/')}" if url else address
