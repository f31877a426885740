"""ComfyUIs that come, go, hang and come back while they work for a front: each request ends once, with one video."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.dev_server.set_up import clips
from fast_animatediff.endpoints.protocol.settings import Settings
from fast_animatediff.endpoints.requests.lanes import Lanes
from fast_animatediff.endpoints.serving import LANES, front
from fast_animatediff.tests.endpoints.network import Cable
from fast_animatediff.tests.endpoints.requests.test_queue import busy, eventually
from fast_animatediff.tests.endpoints.requests.test_restarts import was_sent
from fast_animatediff.tests.endpoints.served import APP, LONG, SMALL, TURBO, Front, Served

pytestmark = pytest.mark.server
STEPS = LONG | {"num_inference_steps": 12}
TO_VIDEO = f"{APP}/turbo/video-to-video"
FAST = {"prompt": "x", "strength": 0, "first_n_seconds": 2, "fps": 1}
FREE = 40 << 20  # bytes at the end of a video, more than what the sockets' buffers take


def clip(served: Served) -> Path:
    return next(path for path in clips(served.base) if path.suffix == ".mp4")


def videos(served: Served, request_id: str) -> list[Path]:
    """What any attempt has written, without emptied files."""
    return [path for path in (served.base / "output").rglob(f"*{request_id}*.mp4") if path.stat().st_size]


@contextmanager
def stopped(server: ComfyServer) -> Iterator[None]:
    """The process is there, and takes connections, but does nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.slow
def test_a_comfyui_that_hangs_loses_its_request_to_another_one(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    settings = {"comfyui": [other.base_url, served.address], "answer_seconds": 3}
    with Front(tmp_path / "front", served.address, settings) as front:
        both = [front.submitted(STEPS | {"seed": seed}) for seed in (61, 62)]
        for each in both:
            front.until(each, "IN_PROGRESS", "Sampling: step")
        with stopped(other):
            ended = [front.until(each, "COMPLETED", seconds=60) for each in both]
        assert [front.result(each).json().get("seed") for each in both] == [61, 62]
        said = [line["message"] for status in ended for line in status["logs"]]
        assert sum(line.startswith("ComfyUI went away") for line in said) == 1
        eventually(lambda: served.http.get(f"{other.base_url}/queue").json()["queue_running"] == [])
        assert front.run(SMALL | {"seed": 63}).status_code == 200
    assert [len(videos(served, each)) for each in both] == [1, 1]


@pytest.mark.slow
def test_a_comfyui_that_hangs_with_what_it_had_before_a_restart_loses_it_to_another_one(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    settings = {"comfyui": [other.base_url], "answer_seconds": 3}
    with Front(tmp_path / "front", served.address, settings) as front:
        request_id = front.submitted(STEPS | {"seed": 69})
        front.until(request_id, "IN_PROGRESS", "Sampling: step")
    both = {"comfyui": [other.base_url, served.address], "answer_seconds": 3}
    with Front(tmp_path / "front", served.address, both) as front:
        front.until(request_id, "IN_PROGRESS")
        with stopped(other):
            front.until(request_id, "COMPLETED", seconds=60)
        assert front.result(request_id).json()["seed"] == 69
    assert len(videos(served, request_id)) == 1


@pytest.mark.slow
def test_a_comfyui_that_hangs_while_a_video_is_carried_to_it_loses_its_request_to_another_one(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    large = clip(served).read_bytes() + (FREE + 8).to_bytes(4, "big") + b"free" + bytes(FREE)
    with Front(
        tmp_path / "front", served.address, {"comfyui": [other.base_url], "answer_seconds": 3}
    ) as front:
        place = f"{front.address}/fal/storage/upload/initiate"
        url = front.http.post(place, json={"file_name": "a.mp4"}).json()["file_url"]
        front.http.put(url, content=large).raise_for_status()
        eventually(lambda: front.http.get(f"{front.address}/fal/health/ready").status_code == 200)
        with stopped(other):
            request_id = front.submitted(FAST | {"video_url": url}, TO_VIDEO)
            front.until(request_id, "IN_QUEUE", "ComfyUI went away", seconds=20)
        front.until(request_id, "COMPLETED", seconds=60)
        assert front.result(request_id).status_code == 200


@pytest.mark.slow
def test_an_answer_that_comes_too_late_is_dropped_with_its_file(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    with Cable(other.port) as cable:
        settings = {"comfyui": [cable.address, served.address], "answer_seconds": 2}
        with Front(tmp_path / "front", served.address, settings) as front:
            both = [front.submitted(STEPS | {"seed": seed}) for seed in (64, 65)]
            for each in both:
                front.until(each, "IN_PROGRESS", "Sampling: step")
            [[_, late, *_]] = served.http.get(f"{other.base_url}/queue").json()["queue_running"]
            cable.cut()
            with stopped(other):  # or its file would be found before another has made one
                for each in both:
                    front.until(each, "COMPLETED", seconds=60)
            eventually(lambda: len(videos(served, late)) == 2)  # nobody could tell it to stop
            kept = front.result(late).json()["video"]
            cable.mend()
            eventually(lambda: len(videos(served, late)) == 1)
            assert videos(served, late)[0].name == kept["file_name"]
            assert front.http.get(kept["url"]).content == videos(served, late)[0].read_bytes()


def test_a_call_that_waits_ends_when_its_only_comfyui_hangs(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    settings = {"comfyui": [other.base_url], "answer_seconds": 2}
    with Front(tmp_path / "front", served.address, settings) as front:
        answers = []
        calling = threading.Thread(target=lambda: answers.append(front.run(STEPS | {"seed": 66})))
        calling.start()
        eventually(lambda: served.http.get(f"{other.base_url}/queue").json()["queue_running"])
        with stopped(other):
            calling.join(40)
        assert [(answer.status_code, answer.headers["X-Fal-Retryable"]) for answer in answers] == [
            (503, "true")
        ]
        assert front.run(SMALL | {"seed": 67}).status_code == 200


def test_a_video_that_was_lent_is_taken_back_after_a_restart(served: Served, tmp_path: Path) -> None:
    front = Front(tmp_path / "front", served.address)
    request_id = was_sent(front, served.address, 1, lent="fast-animatediff/lent/a.mp4")
    form = {"type": "temp", "subfolder": "fast-animatediff/lent", "overwrite": "true"}
    with clip(served).open("rb") as file:
        served.http.post(
            f"{served.address}/upload/image", data=form, files={"image": ("a.mp4", file)}
        ).raise_for_status()
    lent = served.base / "temp" / "fast-animatediff" / "lent" / "a.mp4"
    assert lent.stat().st_size
    with front:
        front.until(request_id, "COMPLETED", seconds=60)
        eventually(lambda: lent.stat().st_size == 0)


def test_a_result_waits_on_its_comfyui_while_the_disk_is_full(served: Served, tmp_path: Path) -> None:
    with Front(tmp_path / "front", served.address) as front:
        results = front.base / "fast-animatediff-endpoints-files" / "results"
        results.parent.mkdir(exist_ok=True)
        results.write_bytes(b"")  # no folder can be made in its place
        request_id = front.submitted(SMALL | {"seed": 68})
        eventually(lambda: "can't store a video" in front.log)
        assert front.status(request_id)["status"] == "IN_PROGRESS"
        results.unlink()
        front.until(request_id, "COMPLETED", seconds=30)
        assert front.http.get(front.result(request_id).json()["video"]["url"]).content[4:8] == b"ftyp"


@pytest.mark.slow
def test_a_comfyui_that_has_no_space_for_a_video_leaves_it_to_another_one(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    lent = served.base / "temp-of-the-other" / "temp" / "fast-animatediff"
    shutil.rmtree(lent, ignore_errors=True)
    lent.parent.mkdir(exist_ok=True)
    lent.write_bytes(b"")  # no folder can be made in its place
    data = f"data:video/mp4;base64,{base64.b64encode(clip(served).read_bytes()).decode()}"
    with Front(tmp_path / "front", served.address, {"comfyui": [other.base_url]}) as front:
        waits = front.submitted(FAST | {"video_url": data}, TO_VIDEO)
        front.until(waits, "IN_QUEUE", "ComfyUI can't store the video")
    both = {"comfyui": [other.base_url, served.address]}
    with Front(tmp_path / "front", served.address, both) as front:
        for each in [
            waits,
            *(front.submitted(FAST | {"video_url": data, "seed": n}, TO_VIDEO) for n in (1, 2)),
        ]:
            front.until(each, "COMPLETED", seconds=60)
            assert front.result(each).status_code == 200
    lent.unlink()


@pytest.mark.slow
def test_after_a_restart_what_waited_goes_to_the_comfyui_that_is_idle(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    with busy(served):
        with Front(tmp_path / "front", "http://127.0.0.1:9") as front:
            waiting = front.submitted(SMALL | {"seed": 73})
        both = {"comfyui": [served.address, other.base_url]}
        with Front(tmp_path / "front", served.address, both) as front:
            front.until(waiting, "COMPLETED", seconds=30)
            assert f"worker={other.base_url}" in front.log.partition(f"ended request_id={waiting}")[2]


def test_lanes_come_and_go_while_requests_run(served: Served, tmp_path: Path) -> None:
    async def scenario(base: str, lanes: Lanes) -> None:
        async with aiohttp.ClientSession() as http:

            async def submit(request: dict) -> str:
                async with http.post(f"{base}/queue/{TURBO}", json=request) as answer:
                    return (await answer.json())["request_id"]

            async def status(request_id: str) -> str:
                async with http.get(f"{base}/queue/{APP}/requests/{request_id}/status") as answer:
                    return (await answer.json())["status"]

            async def until(request_id: str, state: str) -> None:
                while (found := await status(request_id)) != state:
                    assert found != "COMPLETED"
                    await asyncio.sleep(0.05)

            drained = await submit(STEPS | {"seed": 71})
            await asyncio.sleep(0.5)
            assert (await status(drained), lanes.queue.waiting, lanes.states()) == ("IN_QUEUE", 1, [])
            lanes.add(served.address)
            lanes.add(served.address.replace("127.0.0.1", "LOCALHOST") + "/")
            [lane] = lanes.states()
            assert lane.address == served.address
            await until(drained, "IN_PROGRESS")
            waits = await submit(STEPS | {"seed": 72})
            [lane] = lanes.states()
            assert (lane.state, lane.request_id, lanes.queue.waiting) == ("busy", drained, 1)
            await lanes.drain(served.address)
            assert (await status(drained), await status(waits)) == ("COMPLETED", "IN_QUEUE")
            assert lanes.states() == []

            lanes.add(served.address)
            await until(waits, "IN_PROGRESS")
            await lanes.remove(served.address)
            assert (await status(waits), lanes.queue.waiting, lanes.states()) == ("IN_QUEUE", 1, [])
            async with http.get(f"{base}/queue/{APP}/requests/{drained}") as answer:
                video = (await answer.json())["video"]
            async with http.get(video["url"]) as answer:
                assert (answer.status, len(await answer.read())) == (200, video["file_size"])
            lanes.add(served.address)
            await until(waits, "COMPLETED")
            async with http.get(f"{base}/queue/{APP}/requests/{waits}") as answer:
                assert answer.status == 200, await answer.text()
            assert len(videos(served, waits)) == 1

    with_front(tmp_path, scenario)


def with_front(folder: Path, scenario: Callable[[str, Lanes], Awaitable[None]]) -> None:
    """Runs a scenario with the endpoints in this process, at a base URL, without any lane."""

    async def run() -> None:
        app = front(Settings(database=folder / "requests.sqlite3", max_pixels=64 * 64))
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            base = f"http://127.0.0.1:{runner.addresses[0][1]}/fal"
            await asyncio.wait_for(scenario(base, app[LANES]), 120)
        finally:
            await runner.cleanup()

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 120
