"""A request as it comes over HTTP: the call, its headers and its body, into what is stored of it."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from ..protocol.answers import Address
from ..protocol.failure import Refused, refuse, wrong_field
from ..protocol.schemas import ENDPOINTS, Endpoint, validate, with_seed
from ..protocol.settings import Settings
from ..protocol.spelling import host_of, parsed
from ..requests.jobs import NewJob
from .bodies import decode, read_body


@dataclass(frozen=True)
class Call:
    """What is asked of which API, whether it came straight or through the JavaScript client's proxy path."""

    api: str  # run or queue
    method: str
    path: str
    query: Mapping[str, str]

    def require(self, method: str) -> None:
        """HEAD asks for a GET without its content. Errors: HTTPMethodNotAllowed."""
        allowed = ["GET", "HEAD"] if method == "GET" else [method]
        if self.method not in allowed:
            raise web.HTTPMethodNotAllowed(self.method, allowed)


async def read_request(request: web.Request, call: Call, settings: Settings, address: Address) -> NewJob:
    """Errors: Refused with 400, 404, 413 or 422; HTTPMethodNotAllowed."""
    endpoint = ENDPOINTS.get(call.path)
    if endpoint is None:
        raise refuse(404, f"Application '{call.path}' not found. There are: {', '.join(ENDPOINTS)}.")
    call.require("POST")
    request_id, webhook, timeout = read_id(request), read_webhook(call, settings), read_timeout(request)
    body = await read_body(request, settings.max_body_mb << 20)
    digest, text = await asyncio.to_thread(read_input, endpoint, body)
    return NewJob(
        id=request_id,
        endpoint=endpoint.id,
        digest=digest,
        request=text,
        api=call.api,
        address=address.base,
        has_view=address.has_view,
        low=request.headers.get("x-fal-queue-priority", "").lower() == "low",
        webhook=webhook,
        deadline=time.time() + timeout if timeout else None,
    )


def read_input(endpoint: Endpoint, body: bytes) -> tuple[str, str]:
    """A digest of what was asked, and the input as JSON with its seed drawn: a restart gives the same video.

    Errors: Refused with 422.
    """
    model = validate(endpoint, decode(body))
    digest = hashlib.sha256(model.model_dump_json().encode("utf-8", "surrogatepass")).hexdigest()
    return digest, with_seed(model).model_dump_json()


def read_id(request: web.Request) -> str:
    """The id that the client chose, so that asking again does not run twice, or a new one."""
    given = request.headers.get("x-fal-request-id")
    if given is None:
        return str(uuid.uuid4())
    if not is_uuid(given):
        message = "A request id has to be a UUID, in lower case and with hyphens."
        raise Refused(wrong_field("x-fal-request-id", message, "uuid_parsing", at="header"))
    return given


def is_uuid(text: str) -> bool:
    """Whether it is a UUID as the host takes it: lower case, with hyphens."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def read_timeout(request: web.Request) -> float | None:
    """Seconds in which the request has to begin."""
    given = request.headers.get("x-fal-request-timeout")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise refuse(400, "x-fal-request-timeout has to be a number of seconds above 0.", "bad_request")
    return seconds


def read_webhook(call: Call, settings: Settings) -> str | None:
    url = call.query.get("fal_webhook")
    if not url or call.api != "queue":
        return None
    if not settings.webhooks:
        raise Refused(wrong_field("fal_webhook", "Webhooks are off here.", "value_error", at="query"))
    found = parsed(url)
    if not url.isprintable() or not found or found.scheme not in ("http", "https") or not host_of(found):
        message = "A webhook needs an http or https address."
        raise Refused(wrong_field("fal_webhook", message, "url_parsing", at="query"))
    return url
