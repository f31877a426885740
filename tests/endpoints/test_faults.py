"""Every accepted request ends once, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from fast_animatediff.dev_server.host import host_folder
from fast_animatediff.dev_server.server import ComfyServer, free_port
from fast_animatediff.tests.endpoints.served import LONG, SMALL, Served, new_id

pytestmark = pytest.mark.server
STEPS = LONG | {"num_inference_steps": 20}


def outputs(served: Served, request_id: str) -> int:
    return len(list((served.base / "output").rglob(f"*{request_id}*.mp4")))


def wait_for_position(served: Served, request_id: str, position: int) -> None:
    deadline = time.monotonic() + 30
    while served.status(request_id)["queue_position"] != position:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_while_sampling_and_queued_everything_ends_once_after_the_restart(served: Served) -> None:
    sampling = served.submitted(STEPS | {"seed": 3})
    waiting = [served.submitted(SMALL | {"seed": seed}) for seed in (4, 5)]
    cancelled, last = (served.submitted(SMALL, x_fal_queue_priority="low") for _ in range(2))
    chosen = new_id()
    served.http.put(f"{served.url(cancelled)}/cancel")
    served.until(sampling, "IN_PROGRESS", "Sampling: step")
    with ThreadPoolExecutor(2) as others:
        others.submit(served.run, SMALL | {"seed": 6}, **{"x-fal-request-id": chosen})
        others.submit(served.run, SMALL)
        wait_for_position(served, last, len(waiting) + 2)
        served.kill()
    with closing(sqlite3.connect(served.base / "user" / "fast-animatediff-endpoints.sqlite3")) as database:
        [[connected]] = database.execute("SELECT id FROM requests WHERE api = 'run' AND state != 'ended'")
    served.start()
    kept = (sampling, *waiting, chosen, last)
    results = [served.until(each, "COMPLETED") and served.result(each) for each in kept]
    assert [answer.status_code for answer in results] == [200] * 5
    assert [answer.json()["seed"] for answer in results] == [3, 4, 5, 6, 1]
    assert [outputs(served, each) for each in kept] == [1] * 5
    assert served.result(connected).json()["error_type"] == "client_disconnected"
    assert served.result(cancelled).json()["error_type"] == "client_cancelled"


@pytest.fixture(scope="module")
def other(served: Served) -> Iterator[ComfyServer]:
    """A second ComfyUI; the endpoints know it, themselves, and one that is not there."""
    user = served.base / "user-of-the-other"
    user.mkdir()
    other = ComfyServer(host_folder(), served.base, free_port(), ["--user-directory", str(user)])
    other.log_path = served.base / "other.log"
    with other:
        served.restart({"comfyui": [other.base_url, "http://127.0.0.1:9", served.address]})
        yield other
    served.restart()


def two_sampling(served: Served, seeds: tuple[int, int]) -> list[str]:
    both = [served.submitted(STEPS | {"seed": seed}) for seed in seeds]
    for each in both:
        served.until(each, "IN_PROGRESS", "Sampling: step")
    return both


def test_a_request_that_outlives_the_endpoints_on_another_comfyui_is_not_run_again(
    served: Served, other: ComfyServer
) -> None:
    both = two_sampling(served, (16, 17))
    outlives = served.http.get(f"{other.base_url}/queue").json()["queue_running"][0][1]
    killed = time.time()
    served.kill()
    served.start()
    results = [served.until(each, "COMPLETED") and served.result(each) for each in both]
    assert [answer.json()["seed"] for answer in results] == [16, 17]
    assert [outputs(served, each) for each in both] == [1, 1]
    urls = [answer.json()["video"]["url"] for answer in results]
    assert urls[both.index(outlives)].startswith(f"{served.address}/fal/files/")
    assert all(served.http.get(url).content[4:8] == b"ftyp" for url in urls)
    ran = served.http.get(f"{other.base_url}/history/{outlives}").json()[outlives]["status"]
    assert ran["completed"] and ran["messages"][0][1]["timestamp"] / 1000 < killed


def test_a_comfyui_that_dies_hands_its_request_to_another_one(served: Served, other: ComfyServer) -> None:
    both = two_sampling(served, (6, 7))
    os.kill(other.pid, signal.SIGKILL)
    ended = [served.until(each, "COMPLETED") for each in both]
    assert [served.result(each).status_code for each in both] == [200, 200]
    said = [line["message"] for status in ended for line in status["logs"]]
    assert sum(line.startswith("ComfyUI went away") for line in said) == 1
    assert served.run(SMALL).status_code == 200


def test_a_taken_port_and_a_locked_database_leave_the_host_running_and_lose_nothing(served: Served) -> None:
    served.server.stop()
    port = int(served.secure.partition(":")[2])
    database = served.base / "user" / "fast-animatediff-endpoints.sqlite3"
    with closing(sqlite3.connect(database)) as another, socket.create_server(("127.0.0.1", port)):
        another.execute("PRAGMA locking_mode = EXCLUSIVE")
        another.execute("BEGIN EXCLUSIVE")
        served.start()
        answer = served.submit(SMALL)
        assert answer.status_code == 503
        assert answer.json()["error_type"] == "internal_error" and str(served.base) not in answer.text
    assert served.run(SMALL).status_code == 200
    assert f"can't listen on 127.0.0.1:{port}" in served.server.log_text()
    served.restart()
