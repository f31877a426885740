"""Calls that no client of the service makes: each gets an answer in the service's shape. No ComfyUI is needed for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from fast_animatediff.endpoints.protocol.settings import Settings
from fast_animatediff.endpoints.serving import front
from fast_animatediff.tests.endpoints.served import APP, SMALL, TURBO, new_id

Ask = Callable[..., Awaitable[tuple[int, dict]]]
LIFETIME = "X-Fal-Object-Lifecycle"


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[web.AppRunner, aiohttp.ClientSession]]:
    """The endpoints in front of a ComfyUI that is away, and a client whose paths begin below /fal."""
    runner = web.AppRunner(front(Settings(database=folder / "requests.sqlite3"), ["http://127.0.0.1:9"]))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}/fal/") as http:
            yield runner, http
    finally:
        await runner.cleanup()


def asked(folder: Path, scenario: Callable[[Ask], Awaitable[None]]) -> None:
    async def run() -> None:
        async with started(folder) as (_, http):

            async def ask(method: str, path: str, **options: object) -> tuple[int, dict]:
                async with http.request(method, path, **options) as answer:
                    return answer.status, await answer.json() if method != "HEAD" else dict(answer.headers)

            await scenario(ask)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_whatever_an_upload_says_of_itself_is_taken_or_refused(tmp_path: Path) -> None:
    async def scenario(ask: Ask) -> None:
        initiate = {"json": {"file_name": "a.mp4"}}
        for wanted in ("[" * 7000, '{"expiration_duration_seconds": 1%s}' % ("0" * 400)):
            status, body = await ask(
                "POST", "storage/upload/initiate", headers={LIFETIME: wanted}, **initiate
            )
            assert (status, body["error_type"]) == (400, "bad_request")
        _, told = await ask("POST", "storage/upload/initiate/", **initiate)
        file = told["upload_url"].partition("/fal/")[2]
        for part, status in (("Infinity", 422), ("1e999", 422), (f"1{'0' * 400}", 400), ("-1", 400)):
            body = f'{{"parts": [{{"partNumber": {part}}}]}}'
            assert (await ask("POST", f"{file}/complete", data=body))[0] == status, part
        long = f"{file.rpartition('/')[0]}/{'a' * 4000}"
        for method, path in (("PUT", f"{file}/{'9' * 5000}"), ("PUT", long), ("GET", long)):
            assert (await ask(method, path))[0] == 404, path[:60]
        assert await ask("PUT", file) == (200, {})

    asked(tmp_path, scenario)


def test_a_name_that_no_disk_takes_is_no_page(tmp_path: Path) -> None:
    async def scenario(ask: Ask) -> None:
        for name in ("a" * 5000, "%00", "..%2Findex.html"):
            assert (await ask("GET", f"page/{name}"))[0] == 404

    asked(tmp_path, scenario)


def test_the_page_is_found_without_its_slash_also_where_a_proxy_has_it_below_a_path(tmp_path: Path) -> None:
    async def scenario(ask: Ask) -> None:
        status, headers = await ask("HEAD", "/fal", allow_redirects=False)
        target = URL("https://gpu.example.com/comfyui/fal").join(URL(headers["Location"]))
        assert (status, target.path) == (302, "/comfyui/fal/")

    asked(tmp_path, scenario)


def test_head_is_a_get_without_its_content_and_a_slash_ends_any_path_of_a_client(tmp_path: Path) -> None:
    async def scenario(ask: Ask) -> None:
        target = {"x-fal-target-url": f"https://queue.fal.run/{TURBO}"}
        status, told = await ask("POST", "proxy/", json=SMALL, headers=target)
        assert (status, told["status"]) == (200, "IN_QUEUE")
        request = f"queue/{APP}/requests/{told['request_id']}"
        for path, status in ((f"{request}/status", 202), (f"{request}/status/stream", 200), (request, 400)):
            assert (await ask("HEAD", path))[0] == status
        assert (await ask("HEAD", f"run/{TURBO}"))[0] == 405
        assert (await ask("POST", f"{request}/status"))[0] == 405

    asked(tmp_path, scenario)


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Proto", "X-Forwarded-Server", "CF-Connecting-IP", "X-Client-IP"]
)
def test_a_request_that_a_proxy_has_marked_is_not_taken_for_one_of_this_machine(
    tmp_path: Path, name: str
) -> None:
    async def scenario(ask: Ask) -> None:
        assert (await ask("POST", f"queue/{TURBO}", json=SMALL, headers={name: "a"}))[0] == 401
        assert (await ask("POST", f"queue/{TURBO}", json=SMALL, headers={"Host": "localhost."}))[0] == 200

    asked(tmp_path, scenario)


@pytest.mark.parametrize("url", ["http://example.com:99999/", "http://..:80/", "http://", "http://a/\n"])
def test_a_webhook_to_which_nothing_can_be_sent_is_refused(tmp_path: Path, url: str) -> None:
    async def scenario(ask: Ask) -> None:
        status, body = await ask("POST", f"queue/{TURBO}", json=SMALL, params={"fal_webhook": url})
        assert (status, body["detail"][0]["type"]) == (422, "url_parsing")

    asked(tmp_path, scenario)


def test_whoever_waits_is_told_when_the_endpoints_shut_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(tmp_path) as (runner, http):
            request_id, chosen = new_id(), new_id()
            async with http.post(f"queue/{TURBO}", json=SMALL, headers={"x-fal-request-id": request_id}):
                pass
            stream = await http.get(f"queue/{APP}/requests/{request_id}/status/stream")
            runs = [
                asyncio.create_task(http.post(f"run/{TURBO}", json=SMALL, headers=headers))
                for headers in ({}, {"x-fal-request-id": chosen})
            ]
            assert b"IN_QUEUE" in await stream.content.readuntil(b"\n\n")
            await asyncio.sleep(0.3)
            began = time.monotonic()
            await runner.cleanup()
            assert time.monotonic() - began < 5
            assert [(await run).status for run in runs] == [503, 503]
            assert await stream.content.read() == b""
        async with started(tmp_path) as (_, http):
            for waits in (request_id, chosen):
                async with http.get(f"queue/{APP}/requests/{waits}/status") as answer:
                    assert (await answer.json())["status"] == "IN_QUEUE", "it goes on after the restart"
            async with http.get("metrics") as answer:
                assert 'requests{state="waiting"} 2' in await answer.text(), "nobody comes back for the third"

    asyncio.run(asyncio.wait_for(scenario(), 60))
