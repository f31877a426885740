"""The HTTP API: the addresses under /fal that the service's clients and a browser use."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from ..protocol.answers import Address
from ..protocol.failure import CLIENT_GONE, CLOSING, NOBODY_ANSWERS, Failure, Refused, refuse, wrong_field
from ..protocol.schemas import ENDPOINTS
from ..protocol.settings import Settings
from ..protocol.spelling import host_of, parsed
from ..requests.jobs import NewJob
from ..requests.lanes import Lanes
from ..requests.signing import Signer
from ..requests.store import StoreUnavailable
from .access import allow_origin, check_client, check_key, is_local_name, preflight
from .answers import address_of, ended_within, failed, queued, result_answer, status_answer, stream_status
from .files import Files
from .incoming import Call, is_uuid, read_request
from .operations import add_operations
from .site import add_site

OF_REQUEST = re.compile(
    r"(?P<app>.+)/requests/(?P<id>[^/]+)(?P<verb>/response|/status|/status/stream|/cancel)?"
)
GONE_SECONDS = 0.5  # between checks that a waiting client is still connected
TARGETS = {"fal.run": "run", "queue.fal.run": "queue", "rest.fal.ai": "rest", "rest.alpha.fal.ai": "rest"}
UPLOADS = {("POST", f"/storage/upload/{kind}") for kind in ("initiate", "initiate-multipart")}
NO_STREAM = "Streams and realtime connections are not served here: a video arrives whole. Use `subscribe`, `run` or the queue."
NOT_STORED = Failure(503, "Requests can't be stored at the moment. Try again later.", "internal_error")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Answers the clients. has_view: a ComfyUI's /view is on the same server."""

    def __init__(self, settings: Settings, lanes: Lanes, signer: Signer, has_view: bool) -> None:
        self.settings, self.lanes, self.signer, self.has_view = settings, lanes, signer, has_view
        self.queue, self.jobs = lanes.queue, lanes.queue.jobs
        self.files = Files(settings, lanes)

    def app(self) -> web.Application:
        """The application that serves /fal."""
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(self._allow_origin)
        app.router.add_route("*", "/{api:run|queue}/{path:.+}", self.asked)
        app.router.add_route("*", "/proxy{slash:/?}", self.proxied)
        self.files.add_to(app.router)
        add_operations(app.router, self.lanes, self.signer)
        add_site(app.router, self.settings)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks who is asking, and gives every error the service's shape."""
        try:
            check_client(request, self.settings)
            if request.method == "OPTIONS":
                return await preflight(request)
            return await handler(request)
        except Refused as error:
            return failed(error.failure)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return failed(Failure(error.status, error.reason), error.headers)
        except StoreUnavailable as error:
            logging.warning("Fast AnimateDiff endpoints: %s", error)
            return failed(NOT_STORED)
        except ConnectionError:  # the client is gone, or an answer that has begun can't be completed
            if request.transport:
                request.transport.abort()
            return failed(CLIENT_GONE)

    async def _allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        allow_origin(request, response, self.settings)

    async def asked(self, request: web.Request) -> web.StreamResponse:
        check_key(request, self.settings)
        api, path = request.match_info["api"], request.match_info["path"].strip("/")
        if self._is_queue_host(request.host.lower()):
            api = "queue"
        return await self.answer(request, Call(api, request.method, path, request.query))

    def _is_queue_host(self, host: str) -> bool:
        """Whether the Python client derived this host from ours, because only FAL_RUN_HOST was set."""
        prefix, _, name = host.partition("queue.")
        own = parsed(self.settings.address or "")
        return (
            not prefix and bool(name) and (is_local_name(name) or own is not None and name == own.authority)
        )

    async def proxied(self, request: web.Request) -> web.StreamResponse:
        """What the JavaScript client sends to its `proxyUrl`; a header names the address that it is meant for."""
        check_key(request, self.settings)
        target = parsed(request.headers.get("x-fal-target-url", ""))
        api = TARGETS.get(host_of(target))
        if target is None or api is None:
            message = f"x-fal-target-url must name one of {', '.join(TARGETS)}."
            raise refuse(400, message, "bad_request")
        if api == "rest":
            if (request.method, target.path) in UPLOADS:
                return await self.files.initiate_upload(request)
            if target.path.startswith("/tokens"):  # asked for before a realtime connection
                raise refuse(404, NO_STREAM)
            raise refuse(404, f"{target.path} is not served here.")
        call = Call(api, request.method, target.path.strip("/"), target.query)
        return await self.answer(request, call)

    async def answer(self, request: web.Request, call: Call) -> web.StreamResponse:
        address = address_of(request, self.settings, self.has_view)
        found = OF_REQUEST.fullmatch(call.path)
        if found:
            return await self.about(request, call, address, **found.groupdict(""))
        endpoint, _, last = call.path.rpartition("/")
        if endpoint in ENDPOINTS and last in ("stream", "realtime"):
            raise refuse(404, NO_STREAM)
        new = await read_request(request, call, self.settings, address)
        if call.api == "run":
            return await self.run(request, new, address)
        job, _ = await self.queue.accept(new, read_most_waiting(call))
        return queued(job, self.queue, address)

    async def run(self, request: web.Request, new: NewJob, address: Address) -> web.StreamResponse:
        """Waits for the result. A client that disconnects has cancelled, unless it chose the id: it may come back then."""
        returns = "x-fal-request-id" in request.headers
        job, is_new = await self.queue.accept(replace(new, api="queue") if returns else new)
        running = self.queue.find(job.id)
        served = time.monotonic()
        try:
            while running and not running.ended.is_set():
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError("The client is gone.")
                if self.queue.is_closing:
                    raise Refused(CLOSING)
                if self.lanes.is_serving():
                    served = time.monotonic()
                elif time.monotonic() - served > self.settings.answer_seconds:
                    raise Refused(NOBODY_ANSWERS)
                await ended_within(running, GONE_SECONDS)
        except (asyncio.CancelledError, ConnectionError, Refused) as error:
            if is_new and not returns:
                await self.queue.cancel(job.id, error.failure if isinstance(error, Refused) else CLIENT_GONE)
            raise
        return result_answer(await self.jobs.get(job.id) or job, address)

    async def about(
        self, request: web.Request, call: Call, address: Address, app: str, id: str, verb: str
    ) -> web.StreamResponse:
        """Answers for the status or the result of a request, or cancels it."""
        call.require("PUT" if verb == "/cancel" else "GET")
        await self.queue.recovered()
        running = self.queue.find(id)
        job = running.job if running else await self.jobs.get(id) if is_uuid(id) else None
        if job is None or not (job.endpoint == app or job.endpoint.startswith(f"{app}/")):
            return failed(Failure(404, "Request not found."), more={"status": "NOT_FOUND"})
        if verb == "/cancel":
            if await self.queue.cancel(id):
                body = {"status": "CANCELLATION_REQUESTED", "request_id": id}
                return web.json_response(body, status=202)
            return failed(Failure(400, "The request has ended."), more={"status": "ALREADY_COMPLETED"})
        logs = call.query.get("logs", "").lower() in ("1", "true")
        if verb == "/status":
            return status_answer(job, self.queue, address, logs)
        if verb == "/status/stream":
            return await stream_status(request, job, self.queue, address, logs)
        if job.state != "ended":
            raise refuse(400, "Request is still in progress")
        return result_answer(job, address)


def read_most_waiting(call: Call) -> int | None:
    """How many requests may be waiting for this one to be accepted. Errors: Refused with 422."""
    given = call.query.get("fal_max_queue_length")
    if given is None:
        return None
    if not re.fullmatch(r"\d{1,9}", given, re.ASCII):
        message = "Input should be a whole number of requests"
        raise Refused(wrong_field("fal_max_queue_length", message, "int_parsing", at="query"))
    return int(given)
