"""The HTTP answers about a request: its status, once or as a stream, its result or its failure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from ..protocol.answers import Address, Body, completed_body, queued_body, result_body, status_body
from ..protocol.failure import Failure, refuse
from ..protocol.settings import Settings
from ..requests.jobs import Job
from ..requests.queue import Queue
from ..requests.request import Request
from ..requests.store import keep_trying

POLL_SECONDS = 0.1
PING_SECONDS = 10.0
KEPT = ("x-fal-request-id", "allow")  # headers of an error that the client gets


def address_of(request: web.Request, settings: Settings, has_view: bool = False) -> Address:
    """The address at which this client reached us, and can get its results. Errors: Refused with 400."""
    if settings.address:
        return Address(settings.address)
    if not request.host.isprintable():  # bytes that are not text
        raise refuse(400, "The Host header is not a name.", "bad_request")
    return Address(f"{request.scheme}://{request.host}", has_view)


def queued(job: Job, queue: Queue, address: Address) -> web.Response:
    return web.json_response(queued_body(job.id, queue.position(job.id), address), headers=named(job))


def describe(job: Job, queue: Queue, address: Address, logs: bool) -> Body:
    """The status of a request."""
    request = queue.find(job.id)
    lines = (request.log.lines if request else job.logs or []) if logs else []
    if job.state == "ended" and request is None:
        return completed_body(job.id, address, lines, job.seconds, job.failure)
    position = None if request and request.began else queue.position(job.id)
    return status_body(job.id, address, lines, position)


def status_answer(job: Job, queue: Queue, address: Address, logs: bool) -> web.Response:
    body = describe(job, queue, address, logs)
    status = 200 if body["status"] == "COMPLETED" else 202
    return web.json_response(body, status=status, headers=named(job))


async def stream_status(
    request: web.Request, job: Job, queue: Queue, address: Address, logs: bool
) -> web.StreamResponse:
    """Server-sent events: the status whenever it changes, each with the log lines that are new."""
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers | named(job))
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    told: Body | None = None
    sent, last = 0, time.monotonic()
    while True:
        running = queue.find(job.id)
        if running is None:  # an answer that has begun can't become an error, so wait for the database
            stored = await keep_trying(partial(queue.jobs.get, job.id))
            job = stored or job
        state = describe(job, queue, address, logs)
        lines = state.pop("logs")
        if state != told or len(lines) > sent:
            await response.write(event(state | {"logs": lines[sent:]}))
            sent, told, last = max(sent, len(lines)), state, time.monotonic()
        if state["status"] == "COMPLETED" or running is None or queue.is_closing:
            break
        if time.monotonic() - last > PING_SECONDS:
            await response.write(b": ping\n\n")
            last = time.monotonic()
        await ended_within(running, POLL_SECONDS)
    await response.write_eof()
    return response


def event(body: Body) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


async def ended_within(request: Request, seconds: float) -> None:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(request.ended.wait(), seconds)


def result_answer(job: Job, address: Address) -> web.Response:
    """The result of a request that has ended, or its failure."""
    if job.result is None:
        return failed(job.failure or Failure(404, "Request not found."), named(job))
    return web.json_response(result_body(job.id, job.result, address), headers=named(job))


def named(job: Job) -> dict[str, str]:
    return {"x-fal-request-id": job.id}


def failed(
    failure: Failure, headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None
) -> web.Response:
    kept = {name: value for name, value in (headers or {}).items() if name.lower() in KEPT}
    return web.json_response(
        failure.body | dict(more or {}), status=failure.status, headers=failure.headers | kept
    )
