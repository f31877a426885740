"""Every accepted request ends once, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.endpoints.requests.test_queue import eventually
from fast_animatediff.tests.endpoints.served import LONG, SMALL, TURBO, Front, Served, new_id

pytestmark = pytest.mark.server
STEPS = LONG | {"num_inference_steps": 12}


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


def sleeping_front(served: Served, other: ComfyServer, folder: Path, silence: float) -> Front:
    """Its requests sleep in the second ComfyUI. silence: in seconds, after which such a request is given up."""
    settings = {"comfyui": [other.base_url], "silence_seconds": silence}
    own = f"[workflows]\n{json.dumps(TURBO)} = {json.dumps(str(served.base / 'Sleep.json'))}\n"
    return Front(folder / "front", served.address, settings, own)


def wake(served: Served) -> None:
    """Lets the node that sleeps in the second ComfyUI end."""
    (served.base / "custom_nodes" / "wake").touch()


@pytest.mark.slow
def test_a_prompt_that_shows_no_sign_of_life_ends_and_so_does_what_waits_for_its_comfyui(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    with sleeping_front(served, other, tmp_path, silence=2.0) as front:
        answer = front.run(SMALL)
        assert (answer.status_code, answer.headers["X-Fal-Retryable"]) == (503, "true"), answer.text
        assert "restart it" in front.log, "nor does it stop when it is told to"
        waits = front.submitted(SMALL)
        time.sleep(1.0)
        assert front.status(waits)["status"] == "IN_QUEUE", "it is not sent to a ComfyUI that runs nothing"
        wake(served)
        front.until(waits, "IN_PROGRESS", seconds=60)
        front.http.put(f"{front.url(waits)}/cancel")
        wake(served)


@pytest.mark.slow
def test_a_prompt_that_goes_on_after_a_restart_ends_when_it_shows_no_sign_of_life(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    with sleeping_front(served, other, tmp_path, silence=8.0) as front:
        eventually(lambda: served.http.get(f"{other.base_url}/queue").json()["queue_running"] == [])
        sleeps = front.submitted(SMALL | {"seed": 18})
        front.until(sleeps, "IN_PROGRESS")
        front.kill()
        front.start()
        front.until(sleeps, "COMPLETED")
        wake(served)  # for the tests behind this one
        answer = front.result(sleeps)
        assert (answer.status_code, answer.headers["X-Fal-Retryable"]) == (503, "true"), answer.text


@pytest.mark.slow
def test_requests_that_two_comfyuis_run_when_the_endpoints_are_killed_are_not_run_again(
    served: Served, other: ComfyServer, tmp_path: Path
) -> None:
    comfyuis = [other.base_url, "http://127.0.0.1:9", served.address]
    with Front(tmp_path / "front", served.address, {"comfyui": comfyuis}) as front:
        long = LONG | {"num_inference_steps": 30}
        both = [front.submitted(long | {"seed": seed}) for seed in (16, 17)]
        for each in both:
            front.until(each, "IN_PROGRESS", "Sampling: step")
        front.kill()
        killed = time.time()
        front.start()
        for each in both:
            front.until(each, "IN_PROGRESS", "Sampling: step")
        results = [front.until(each, "COMPLETED") and front.result(each).json() for each in both]
        assert [result["seed"] for result in results] == [16, 17]
        assert [outputs(served, each) for each in both] == [1, 1]
        for each, result in zip(both, results, strict=True):
            url = f"{front.address}/fal/files/{each}/{result['video']['file_name']}"
            assert front.http.get(url).content[4:8] == b"ftyp"
        known = [front.http.get(f"{url}/history").json() for url in (other.base_url, served.address)]
        ran = [histories[each]["status"] for each in both for histories in known if each in histories]
        assert len(ran) == 2 and all(status["completed"] for status in ran)
        assert all(status["messages"][0][1]["timestamp"] / 1000 < killed for status in ran)


@pytest.mark.slow
def test_a_comfyui_that_dies_hands_its_request_to_another_one(
    served: Served, doomed: ComfyServer, tmp_path: Path
) -> None:
    comfyuis = [doomed.base_url, "http://127.0.0.1:9", served.address]
    with Front(tmp_path / "front", served.address, {"comfyui": comfyuis}) as front:
        both = [front.submitted(STEPS | {"seed": seed}) for seed in (6, 7)]
        for each in both:
            front.until(each, "IN_PROGRESS", "Sampling: step")
        os.kill(doomed.pid, signal.SIGKILL)
        ended = [front.until(each, "COMPLETED") for each in both]
        assert [front.result(each).status_code for each in both] == [200, 200]
        said = [line["message"] for status in ended for line in status["logs"]]
        assert sum(line.startswith("ComfyUI went away") for line in said) == 1
        assert all(status["metrics"]["inference_time"] > 0 for status in ended)
        assert front.run(SMALL).status_code == 200


@pytest.mark.slow
def test_requests_end_when_the_thread_that_runs_prompts_is_dead(doomed: ComfyServer) -> None:
    with httpx.Client(timeout=60) as http:
        answer = http.post(f"{doomed.base_url}/fal/run/{TURBO}", json=SMALL)
    assert (answer.status_code, answer.headers["X-Fal-Retryable"]) == (503, "true"), answer.text
    assert "restart it" in doomed.log_text()
    doomed.stop()
