"""Webhooks by themselves: who is told, how often, and where nothing is ever sent."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from fast_animatediff.endpoints.protocol.failure import CANCELLED, DAMAGED
from fast_animatediff.endpoints.requests.jobs import Job, Jobs, NewJob
from fast_animatediff.endpoints.requests.signing import Signer
from fast_animatediff.endpoints.requests.webhooks import PAUSES, Webhooks
from fast_animatediff.endpoints.settings import Settings
from fast_animatediff.tests.endpoints.network import Names, Recorder, serving

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
    webhooks = Webhooks(settings, jobs, Signer(path / "key"), Names(), pauses)
    running = asyncio.create_task(webhooks.run(ready))
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
    assert caplog.text.count("trying again") == 2 and caplog.text.count("giving up: it answered 410") == 1


def test_a_key_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    for damaged in (b"", b"short"):
        (tmp_path / "key").write_bytes(damaged)
        made = Signer(tmp_path / "key").key_set()
        assert made == Signer(tmp_path / "key").key_set() and made["keys"]


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


def test_a_receiver_that_hangs_delays_no_other_one(tmp_path: Path) -> None:
    heard: dict[str, float] = {}
    hanging = asyncio.Event()

    async def listener(request: web.Request) -> web.Response:
        if request.path.startswith("/hangs"):
            await hanging.wait()
        body = await request.json()
        heard[body["request_id"]] = time.monotonic()
        return web.Response()

    async def scenario() -> None:
        jobs, ready = Jobs(tmp_path / "requests.sqlite3"), asyncio.Event()
        async with serving(listener) as port:
            hooks = {f"h{number}": f"http://127.0.0.1:{port}/hangs?{number}" for number in range(40)}
            hooks |= {f"o{number}": f"http://127.0.0.1:{port}/hangs/{number}" for number in range(80)}
            hooks |= {f"g{number}": f"http://127.0.0.1:{port}/good/{number}" for number in range(20)}
            settings = Settings(allowed_hosts=("127.0.0.1",))
            webhooks = Webhooks(settings, jobs, Signer(tmp_path / "key"), Names())
            running = asyncio.create_task(webhooks.run(ready))
            ready.set()
            ended = {}
            for name, url in hooks.items():
                await jobs.accept(NewJob(name, "e", "d", "{}", "queue", "http://us", True, webhook=url))
                await jobs.end(name, None, CANCELLED, [], None)
                ended[name] = time.monotonic()
            await asyncio.sleep(1.0)
            assert sorted(heard) == sorted(name for name in hooks if name.startswith("g"))
            assert all(heard[name] - ended[name] < 1.0 for name in heard)
            hanging.set()
            deadline = time.monotonic() + 30.0
            while len(heard) < len(hooks) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            assert sorted(heard) == sorted(hooks), "those that waited for their receiver are told, too"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await jobs.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_is_set_does_not_put_off_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    tries: list[int] = []
    clock = time.time

    async def listener(request: web.Request) -> web.Response:
        tries.append(1)
        later = partial(monkeypatch.setattr, time, "time", lambda: clock() + jump)
        asyncio.get_running_loop().call_later(0.3, later)  # when the next attempt is stored
        return web.Response(status=500 if len(tries) == 1 else 200)

    async def scenario() -> Job:
        async with serving(listener) as port:
            settings = Settings(allowed_hosts=("127.0.0.1",))
            return await deliver(tmp_path, f"http://127.0.0.1:{port}/", settings, 2.0, pauses=(0.8,))

    job = asyncio.run(scenario())
    assert len(tries) == 2 and job.hook_due is None


def test_a_damaged_row_is_told_as_a_failure_and_stops_no_other_webhook(tmp_path: Path) -> None:
    heard: dict[str, dict] = {}

    async def listener(request: web.Request) -> web.Response:
        body = await request.json()
        heard[body["request_id"]] = body
        return web.Response()

    async def scenario() -> None:
        path = tmp_path / "requests.sqlite3"
        async with serving(listener) as port:
            url = f"http://127.0.0.1:{port}/"
            jobs = Jobs(path)
            await jobs.accept(NewJob("broken", "e", "d", "{}", "queue", "http://us", True, webhook=url))
            await jobs.end("broken", RESULT | {"seed": 7, "worker": "http://host"}, None, [], None)
            await jobs.close()
            with closing(sqlite3.connect(path)) as db, db:
                db.execute("UPDATE requests SET result = '{'")
            await deliver(tmp_path, url, Settings(allowed_hosts=("127.0.0.1",)), 1.0)

    asyncio.run(scenario())
    assert heard["a"]["status"] == "OK"
    assert (heard["broken"]["status"], heard["broken"]["error"]) == ("ERROR", DAMAGED.message)
