"""The endpoints end and start again in front of a ComfyUI that stays up: each request ends once, its file is not lost."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fast_animatediff.dev_server.set_up import clips
from fast_animatediff.endpoints.protocol.answers import Video
from fast_animatediff.endpoints.requests.jobs import Jobs, NewJob, output_name
from fast_animatediff.tests.endpoints.requests.test_queue import asked_of_comfyui, busy, eventually
from fast_animatediff.tests.endpoints.served import APP, LONG, SMALL, TURBO, Front, Served, new_id

pytestmark = pytest.mark.server
TO_VIDEO = f"{APP}/turbo/video-to-video"


@pytest.fixture
def front(served: Served, tmp_path: Path) -> Iterator[Front]:
    """Endpoints that are not running yet, and for which the ComfyUI of `served` works."""
    front = Front(tmp_path / "front", served.address)
    yield front
    front.kill()
    front.http.close()


def outputs(served: Served, request_id: str) -> list[Path]:
    return list((served.base / "output").rglob(f"*{request_id}*.mp4"))


def was_sent(front: Front, worker: str, times: int, **more: str) -> str:
    """A request that an earlier process sent to a ComfyUI as often as that, and heard no more of."""
    request_id = new_id()

    async def write() -> None:
        jobs = Jobs(front.database)
        request = json.dumps({"prompt": "x", "num_frames": 2, "num_inference_steps": 1, "seed": 11})
        job = await jobs.accept(NewJob(request_id, TURBO, "d", request, "queue", front.address, True))
        await jobs.change(job, state="sent", worker=worker, attempt=times, attempts=times, **more)
        await jobs.close()

    asyncio.run(write())
    return request_id


def place_output(served: Served, request_id: str, times: int = 1, size: int | None = None) -> Path:
    """A file under the name that the workflow gives it, of a clip or, before that is there, of nothing."""
    path = served.base / "output" / "video" / f"FastAnimateDiff-{output_name(request_id, times)}_00001_.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    if size is None:
        shutil.copy(next(clip for clip in clips(served.base) if clip.suffix == ".mp4"), path)
    else:
        path.write_bytes(bytes(size))
    return path


@pytest.mark.parametrize("times", [1, 10])
def test_a_video_that_was_written_before_the_end_was_stored_is_the_result(
    served: Served, front: Front, times: int
) -> None:
    request_id = was_sent(front, served.address, times)
    written = place_output(served, request_id, times)
    front.start().until(request_id, "COMPLETED", seconds=30)
    answer = front.result(request_id)
    assert answer.status_code == 200, answer.text
    video = answer.json()["video"]
    assert (video["file_name"], video["file_size"]) == (written.name, written.stat().st_size)
    assert answer.json()["seed"] == 11
    url = f"{front.address}/fal/files/{request_id}/{written.name}"
    assert front.http.get(url).content == written.read_bytes()
    assert outputs(served, request_id) == [written], "it did not run again"


def test_a_name_that_was_taken_for_a_video_is_no_video(served: Served, front: Front) -> None:
    request_id = was_sent(front, served.address, 1)
    taken = place_output(served, request_id, size=0)
    front.start().until(request_id, "COMPLETED", seconds=60)
    assert front.result(request_id).json()["video"]["file_size"] > 0
    assert len(outputs(served, request_id)) == 2 and taken.stat().st_size == 0


def test_a_request_that_its_comfyui_lost_each_time_ends_after_ten_attempts(
    served: Served, front: Front
) -> None:
    request_id, again = was_sent(front, served.address, 10), was_sent(front, served.address, 9)
    front.start().until(request_id, "COMPLETED", seconds=30)
    answer = front.result(request_id)
    assert (answer.status_code, answer.headers["X-Fal-Retryable"]) == (503, "true")
    front.until(again, "COMPLETED", seconds=60)
    assert front.result(again).status_code == 200


@pytest.mark.slow
def test_a_request_that_waits_behind_others_in_comfyui_uses_up_no_attempt(
    served: Served, front: Front
) -> None:
    with busy(served), front:
        request_id = front.submitted(SMALL | {"seed": 21})
        eventually(lambda: [item[1] for item in asked_of_comfyui(served, "queue_pending")] == [request_id])
        time.sleep(6.0)  # after which it counts as waiting there
        front.kill()
        with closing(sqlite3.connect(front.database)) as database:
            [row] = database.execute("SELECT state, attempts, worker FROM requests")
        assert row == ("sent", 0, served.address)
        front.start()
        served.http.post(f"{served.address}/interrupt", json={})
        front.until(request_id, "COMPLETED", seconds=60)
        assert front.result(request_id).status_code == 200
    assert len(outputs(served, request_id)) == 1


@pytest.mark.slow
def test_a_taken_port_and_a_locked_database_keep_nothing_from_running_and_lose_nothing(
    served: Served, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        front = Front(tmp_path / "front", served.address, {"listen": listen})
        with closing(sqlite3.connect(front.database)) as another:
            another.execute("PRAGMA locking_mode = EXCLUSIVE")
            another.execute("BEGIN EXCLUSIVE")
            front.start()
            answer = front.submit(SMALL)
            assert answer.status_code == 503
            assert answer.json()["error_type"] == "internal_error" and str(front.base) not in answer.text
        with front:
            assert front.run(SMALL).status_code == 200
            assert f"can't listen on {listen}" in front.log
            assert front.log.count("can't use the database yet") < 5


@contextmanager
def hanging_server() -> Iterator[str]:
    """A server that takes connections and never answers; its address."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def test_a_video_that_does_not_come_holds_up_no_other_request(served: Served, front: Front) -> None:
    with hanging_server() as silent, front:
        slow = [
            front.submitted({"prompt": "x", "video_url": f"{silent}/{n}.mp4"}, endpoint=TO_VIDEO)
            for n in "123"
        ]
        for each in slow:
            front.until(each, "IN_QUEUE", "Fetching the video", seconds=10)
        assert front.run(SMALL | {"seed": 31}).status_code == 200
        assert [front.status(each)["status"] for each in slow] == ["IN_QUEUE"] * 3
        for each in slow:
            assert front.http.put(f"{front.url(each)}/cancel").status_code == 202
            assert front.status(each)["status"] == "COMPLETED"
        incoming = front.base / "fast-animatediff-endpoints-files" / "incoming"
        eventually(lambda: list(incoming.iterdir()) == [])


@pytest.mark.slow
def test_the_next_video_is_fetched_while_another_request_runs(served: Served, front: Front) -> None:
    data = next(clip for clip in clips(served.base) if clip.suffix == ".mp4").read_bytes()
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server, front:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                asked.set()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)

        threading.Thread(target=answer, daemon=True).start()
        running = front.submitted(LONG)
        front.until(running, "IN_PROGRESS", "Sampling: step")
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        request = {"prompt": "x", "strength": 0, "first_n_seconds": 2, "fps": 1, "video_url": url}
        request_id = front.submitted(request, endpoint=TO_VIDEO)
        assert asked.wait(10) and front.status(running)["status"] == "IN_PROGRESS"
        front.http.put(f"{front.url(running)}/cancel")
        front.until(request_id, "COMPLETED", seconds=60)
        assert front.result(request_id).status_code == 200


def test_a_video_of_a_comfyui_that_is_away_can_be_asked_for_again(served: Served, tmp_path: Path) -> None:
    away = "http://127.0.0.1:9"
    front = Front(tmp_path / "front", served.address, {"comfyui": [served.address, away]})
    earlier = new_id()

    async def write() -> None:
        jobs = Jobs(front.database)
        await jobs.accept(NewJob(earlier, TURBO, "d", "{}", "queue", front.address, True))
        result = Video(
            filename="a.mp4",
            subfolder="",
            type="output",
            content_type="video/mp4",
            file_size=9,
            worker=away,
            seed=1,
        )
        await jobs.end(earlier, result, None, [], 1.0)
        await jobs.close()

    asyncio.run(write())
    with front:
        url = f"{front.address}/fal/files/{earlier}/a.mp4"
        answer = front.run({"prompt": "x", "video_url": url}, TO_VIDEO)
        assert (answer.status_code, answer.headers["X-Fal-Retryable"]) == (503, "true"), answer.text
        gone = url.replace(earlier, new_id())
        assert front.run({"prompt": "x", "video_url": gone}, TO_VIDEO).status_code == 422


def test_a_database_that_is_damaged_or_has_a_damaged_row_is_said_once_and_requests_run(
    served: Served, front: Front
) -> None:
    request_id = was_sent(front, served.address, 1)
    with closing(sqlite3.connect(front.database)) as database, database:
        database.execute("UPDATE requests SET logs = '{'")
    with front:
        assert front.run(SMALL | {"seed": 41}).status_code == 200
        assert front.result(request_id).status_code == 500
        assert front.status(request_id)["status"] == "COMPLETED"
    front.database.write_bytes(b"This is not a database. " * 100)
    front.http = type(front.http)(timeout=60)
    with front:
        assert front.run(SMALL | {"seed": 42}).status_code == 200
        assert front.result(request_id).status_code == 404
        assert front.log.count("a new database was begun") == 1
