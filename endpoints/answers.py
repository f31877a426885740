"""What clients are told about a request: its status, its result or its failure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from aiohttp import web

from .attempt import Live
from .failure import Failure, refuse
from .jobs import Job, Jobs
from .queue import Queue, keep_trying
from .requests import APP
from .settings import Settings

ROOT = "/fal"
POLL_SECONDS = 0.1
PING_SECONDS = 10.0
KEPT = ("x-fal-request-id", "allow")  # headers of an error that the client gets
Body = dict[str, Any]


@dataclass(frozen=True)
class Address:
    """Where clients reach us, without a trailing slash. view_base: URL of the ComfyUI whose /view is at the same address."""

    base: str
    view_base: str | None

    @staticmethod
    def of(request: web.Request, settings: Settings, view_base: str | None = None) -> Address:
        """The address at which this client reached us, and can get its results. Errors: Refused with 400."""
        if settings.address:
            return Address(settings.address.rstrip("/"), None)
        if not request.host.isprintable():  # bytes that are not text
            raise refuse(400, "The Host header is not a name.", "bad_request")
        return Address(f"{request.scheme}://{request.host}", view_base)

    def request_urls(self, request_id: str) -> dict[str, str]:
        """They hold only the owner and alias of the endpoint's id, as the clients build them."""
        url = f"{self.base}{ROOT}/queue/{APP}/requests/{request_id}"
        return {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}

    def file_url(self, request_id: str, name: str) -> str:
        """Ends in the file's name, as clients expect of a download; the host's /view?filename=... does not."""
        return f"{self.base}{ROOT}/files/{request_id}/{quote(name)}"


def queued(job: Job, queue: Queue, address: Address) -> web.Response:
    live = queue.live(job.id)
    body: Body = {"status": "IN_QUEUE", "request_id": job.id, "gateway_request_id": job.id}
    body |= address.request_urls(job.id) | {"queue_position": queue.position(live) if live else 0}
    return web.json_response(body, headers=named(job))


def status_body(job: Job, queue: Queue, address: Address, logs: bool) -> Body:
    """`logs` is always present: the clients read it without checking."""
    body: Body = {"request_id": job.id, **address.request_urls(job.id)}
    live = queue.live(job.id)
    lines = list(live.log.lines if live else job.logs or []) if logs else []
    if job.state == "ended" and live is None:
        body |= {"status": "COMPLETED", "logs": lines, "metrics": {"inference_time": job.seconds}}
        if job.failure:
            body |= {"error": job.failure.message, "error_type": job.failure.error_type}
    elif live and live.began:
        body |= {"status": "IN_PROGRESS", "logs": lines}
    else:
        body |= {"status": "IN_QUEUE", "queue_position": queue.position(live) if live else 0, "logs": lines}
    return body


def status_answer(job: Job, queue: Queue, address: Address, logs: bool) -> web.Response:
    body = status_body(job, queue, address, logs)
    status = 200 if body["status"] == "COMPLETED" else 202
    return web.json_response(body, status=status, headers=named(job))


async def stream_status(
    request: web.Request, job: Job, queue: Queue, jobs: Jobs, address: Address, logs: bool
) -> web.StreamResponse:
    """Server-sent events: the status whenever it changes, each with the log lines that are new."""
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers | named(job))
    await response.prepare(request)
    told: Body | None = None
    sent, last = 0, time.monotonic()
    while True:
        live = queue.live(job.id)
        if live is None:  # an answer that has begun can't become an error, so wait for the database
            stored = await keep_trying(partial(jobs.get, job.id))
            job = stored or job
        state = status_body(job, queue, address, logs)
        lines = state.pop("logs")
        if state != told or len(lines) > sent:
            await response.write(event(state | {"logs": lines[sent:]}))
            sent, told, last = max(sent, len(lines)), state, time.monotonic()
        if state["status"] == "COMPLETED" or live is None:
            break
        if time.monotonic() - last > PING_SECONDS:
            await response.write(b": ping\n\n")
            last = time.monotonic()
        await ended_within(live, POLL_SECONDS)
    await response.write_eof()
    return response


def event(body: Body) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


async def ended_within(live: Live, seconds: float) -> None:
    try:
        await asyncio.wait_for(live.ended.wait(), seconds)
    except (TimeoutError, asyncio.TimeoutError):
        pass


def result_body(job: Job, address: Address) -> Body:
    """The result of a request that has ended without a failure."""
    file = job.result
    assert file is not None
    video = {
        "url": address.file_url(job.id, file["filename"]),
        "content_type": file["content_type"],
        "file_name": file["filename"],
        "file_size": file["file_size"],
    }
    return {"video": video, "seed": file["seed"]}


def result_answer(job: Job, address: Address) -> web.Response:
    """The result of a request that has ended, or its failure."""
    if job.failure:
        return failed(job.failure, named(job))
    return web.json_response(result_body(job, address), headers=named(job))


def named(job: Job) -> dict[str, str]:
    return {"x-fal-request-id": job.id}


def failed(
    failure: Failure, headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None
) -> web.Response:
    kept = {name: value for name, value in (headers or {}).items() if name.lower() in KEPT}
    return web.json_response(
        failure.body | dict(more or {}), status=failure.status, headers=failure.headers | kept
    )
