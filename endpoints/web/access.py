"""Who is served: holders of a key if keys are set, else this machine only; and pages of which other origins."""

from __future__ import annotations

import hmac
import ipaddress

from aiohttp import web

from ..protocol.failure import refuse
from ..protocol.settings import Settings
from ..protocol.spelling import host_of, parsed

EXPOSED = "x-fal-request-id, x-fal-error-type, x-fal-retryable, x-fal-request-timeout-type"
# How the headers begin that proxies and tunnels add.
RELAYED = (
    "forwarded",
    "via",
    "x-forwarded-",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-original-",
    "cf-",
)
PREFLIGHT_SECONDS = 600


def check_client(request: web.Request, settings: Settings) -> None:
    """Without keys, serves only loopback clients that ask for a loopback name. Errors: Refused.

    Behind a proxy on this machine every client is a loopback client; and DNS rebinding lets a foreign page reach us
    under a name of its own.
    """
    if settings.keys:
        return
    relayed = any(name.lower().startswith(RELAYED) for name in request.headers)
    if relayed or not is_loopback(request.remote or "") or not is_local_name(request.host):
        raise refuse(401, "Without `keys` in the settings, only programs on this machine are served.")
    if is_foreign(request) and not is_allowed(request.headers["Origin"], settings):
        raise refuse(403, "Pages of this origin are not served. Add it to `origins` in the settings.")


def check_key(request: web.Request, settings: Settings) -> None:
    """Requires one of the keys, if any are set. Errors: Refused with 401, in the service's words."""
    if not settings.keys:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if not given:
        raise refuse(401, "Authentication is required to access this application.")
    matches = [hmac.compare_digest(as_bytes(given.strip()), as_bytes(key)) for key in settings.keys]
    if scheme.lower() not in ("key", "bearer") or not any(matches):
        raise refuse(401, "No user found for Key ID and Secret")


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def is_loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def is_local_name(host: str) -> bool:
    name = host_of(parsed(f"http://{host}"))
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def is_foreign(request: web.Request) -> bool:
    """Whether the request comes from a page of another host. A proxy may have changed the scheme, so it is ignored."""
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2].lower() != request.host.lower()


def is_allowed(origin: str, settings: Settings) -> bool:
    return origin in settings.origins or "*" in settings.origins


def allow_origin(request: web.Request, response: web.StreamResponse, settings: Settings) -> None:
    """Lets an allowed page of another origin read the answer. Cookies are never read, so credentials are not allowed."""
    if is_foreign(request) and is_allowed(request.headers["Origin"], settings):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        response.headers["Vary"] = "Origin"


async def preflight(request: web.Request) -> web.Response:
    """Answers a browser's CORS preflight; `allow_origin` adds the origin if it is allowed."""
    headers = {
        "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS",
        "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*"),
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)
