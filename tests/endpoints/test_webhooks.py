"""Webhooks by themselves: who is told, how often, and where nothing is ever sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from fast_animatediff.endpoints.failure import CANCELLED
from fast_animatediff.endpoints.jobs import Job, Jobs, NewJob
from fast_animatediff.endpoints.settings import Settings
from fast_animatediff.endpoints.webhooks import PAUSES, Webhooks
from fast_animatediff.tests.endpoints.network import Recorder, serving

RESULT = {"filename": "a.mp4", "subfolder": "", "type": "output", "content_type": "video/mp4", "file_size": 9}


async def deliver(
    path: Path,
    url: str,
    settings: Settings,
    seconds: float,
    failed: bool = False,
    pauses: Sequence[float] = PAUSES,
) -> Job:
    """Ends a request with a webhook and lets the webhooks run; returns what is stored then."""
    jobs, ready = Jobs(path / "requests.sqlite3"), asyncio.Event()
    await jobs.accept(NewJob("a", "e", "d", "{}", "queue", "http://us", True, webhook=url))
    result = None if failed else RESULT | {"seed": 7, "worker": "http://host"}
    await jobs.end("a", result, CANCELLED if failed else None, [], None)
    ready.set()
    running = asyncio.create_task(Webhooks(settings, jobs, "http://host", pauses).run(ready))
    await asyncio.wait([running], timeout=seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    job = await jobs.get("a")
    await jobs.close()
    return job


@pytest.mark.parametrize("failed", [False, True])
def test_the_message_has_the_services_shape(tmp_path: Path, failed: bool) -> None:
    heard = []

    async def listener(request: web.Request) -> web.Response:
        heard.append(await request.json())
        return web.Response()

    async def scenario() -> Job:
        async with serving(listener) as port:
            settings = Settings(allowed_hosts=("127.0.0.1",))
            return await deliver(tmp_path, f"http://127.0.0.1:{port}/hook", settings, 0.4, failed)

    job = asyncio.run(scenario())
    assert (job.hook_attempts, job.hook_due) == (1, None)
    ids = {"request_id": "a", "gateway_request_id": "a"}
    url = "http://us/fal/files/a/a.mp4"
    video = {"url": url, "content_type": "video/mp4", "file_name": "a.mp4", "file_size": 9}
    said = {"status": "ERROR", "error": CANCELLED.message, "payload": CANCELLED.body}
    assert heard == [ids | (said if failed else {"status": "OK", "payload": {"video": video, "seed": 7}})]


def test_a_listener_that_refuses_or_redirects_is_tried_as_often_as_set_and_then_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [500, 302, 410]

    async def listener(request: web.Request) -> web.Response:
        return web.Response(status=answers.pop(0), headers={"Location": str(request.url)})

    async def scenario() -> Job:
        async with serving(listener) as port:
            settings = Settings(allowed_hosts=("127.0.0.1",), webhook_attempts=3)
            return await deliver(tmp_path, f"http://127.0.0.1:{port}/hook", settings, 2.5, pauses=(0.01,))

    with caplog.at_level(logging.WARNING):
        job = asyncio.run(scenario())
    assert answers == [] and (job.hook_attempts, job.hook_due) == (3, None)
    assert (
        caplog.text.count("it is tried again") == 2
        and caplog.text.count("it is given up: it answered 410") == 1
    )


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/", "http://[::ffff:127.0.0.1]:9/", "http://169.254.169.254/", "http://10.0.0.1/"],
)
def test_nothing_is_sent_to_addresses_that_are_not_public(
    tmp_path: Path, recorder: Recorder, url: str
) -> None:
    job = asyncio.run(deliver(tmp_path, url, Settings(webhook_attempts=1), 0.4))
    assert recorder.tried == [] and recorder.looked_up == []
    assert (job.hook_attempts, job.hook_due) == (1, None)
