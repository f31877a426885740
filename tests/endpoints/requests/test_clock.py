"""The computer's clock is set while requests wait, run and have ended: durations and deadlines go on as before."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from fast_animatediff.endpoints.requests import expiry
from fast_animatediff.endpoints.serving import front
from fast_animatediff.endpoints.settings import Settings
from fast_animatediff.tests.endpoints.served import APP, LONG, SMALL, TURBO, Served

pytestmark = pytest.mark.server
HOUR, DAY = 3600.0, 86400.0


@pytest.mark.parametrize("jump", [-HOUR, pytest.param(30 * DAY, marks=pytest.mark.slow)])
def test_a_clock_that_is_set_changes_no_duration_and_ends_nothing(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    clock = time.time
    monkeypatch.setattr(expiry, "LOOK_SECONDS", 0.2)
    settings = Settings(enabled=True, database=tmp_path / "requests.sqlite3", max_pixels=64 * 64)

    async def scenario() -> None:
        runner = web.AppRunner(front(settings, [served.address]))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fal = f"http://127.0.0.1:{runner.addresses[0][1]}/fal"
        base = f"{fal}/queue"
        async with aiohttp.ClientSession() as http:

            async def submit(request: dict, **headers: str) -> str:
                async with http.post(f"{base}/{TURBO}", json=request, headers=headers) as answer:
                    return (await answer.json())["request_id"]

            async def status(request_id: str) -> dict:
                async with http.get(f"{base}/{APP}/requests/{request_id}/status") as answer:
                    return await answer.json()

            async def until(request_id: str, state: str) -> dict:
                while (found := await status(request_id))["status"] != state:
                    assert found["status"] != "COMPLETED", found
                    await asyncio.sleep(0.05)
                return found

            async def upload() -> str:
                async with http.post(f"{fal}/storage/upload/initiate", json={"file_name": "a"}) as answer:
                    url = (await answer.json())["file_url"]
                await http.put(url, data=b"abc")
                return url

            began = time.monotonic()
            uploaded = await upload()
            ended = await submit(SMALL | {"seed": 51})
            await until(ended, "COMPLETED")
            running = await submit(LONG | {"num_inference_steps": 6})
            waiting = await submit(SMALL | {"seed": 52}, **{"x-fal-request-timeout": "600"})
            await until(running, "IN_PROGRESS")
            monkeypatch.setattr(time, "time", lambda: clock() + jump)
            done = await until(running, "COMPLETED")
            assert 0 < done["metrics"]["inference_time"] < time.monotonic() - began
            await until(waiting, "COMPLETED")
            await asyncio.sleep(1.0)  # in which old results are deleted
            await upload()  # when old uploads are deleted
            async with http.get(uploaded) as answer:
                assert await answer.text() == "abc"
            for request_id in (ended, running, waiting):
                async with http.get(f"{base}/{APP}/requests/{request_id}") as answer:
                    assert answer.status == 200, await answer.text()
                    video = (await answer.json())["video"]
                async with http.get(video["url"]) as answer:
                    assert len(await answer.read()) == video["file_size"]
        await runner.cleanup()

    asyncio.run(scenario())
