"""What a user may rely on while requests wait and run, asked with plain HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fast_animatediff.endpoints.requests.jobs import attempt_id
from fast_animatediff.tests.endpoints.served import APP, LONG, SMALL, TURBO, Served, new_id

pytestmark = pytest.mark.server
MINUTES = {"steps": 100, "width": 256, "height": 256}


def eventually(found: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def asked_of_comfyui(served: Served, which: str) -> list[list]:
    """What ComfyUI itself says of its queue: number, id and prompt of what is queue_running or queue_pending."""
    return served.http.get(f"{served.address}/queue").json()[which]


@contextmanager
def busy(served: Served) -> Iterator[None]:
    """Meanwhile ComfyUI runs a long prompt that somebody queued in its own interface."""
    request_id = served.submitted(LONG)
    served.until(request_id, "IN_PROGRESS", "Sampling")
    [[_, _, prompt, *_]] = asked_of_comfyui(served, "queue_running")
    for node in prompt.values():
        node["inputs"] |= {name: value for name, value in MINUTES.items() if name in node["inputs"]}
    served.http.post(f"{served.address}/prompt", json={"prompt": prompt}).raise_for_status()
    served.http.put(f"{served.url(request_id)}/cancel")
    served.until(request_id, "COMPLETED")
    try:
        yield
    finally:
        served.http.post(f"{served.address}/interrupt", json={})


def sent_while_busy(served: Served, **headers: str) -> str:
    """A request that waits in ComfyUI's own queue."""
    request_id = served.submitted(SMALL, **headers)
    eventually(lambda: [item[1] for item in asked_of_comfyui(served, "queue_pending")] == [request_id])
    return request_id


def test_requests_run_in_order_and_low_priority_ones_last(served: Served) -> None:
    first = served.submitted(LONG)
    served.until(first, "IN_PROGRESS")
    low = served.submitted(SMALL, x_fal_queue_priority="low")
    normal = [served.submitted(SMALL) for _ in range(3)]
    assert [served.status(each)["queue_position"] for each in (*normal, low)] == [0, 1, 2, 3]
    served.http.put(f"{served.url(first)}/cancel")
    ended = {each: served.until(each, "COMPLETED")["logs"][0]["timestamp"] for each in (*normal, low)}
    assert sorted(ended, key=ended.get) == [*normal, low]


def test_the_same_request_id_runs_once(served: Served) -> None:
    request_id = new_id()
    answers = [served.submit(SMALL, x_fal_request_id=request_id).json()["request_id"] for _ in range(3)]
    assert answers == [request_id] * 3
    served.until(request_id, "COMPLETED")
    assert served.submit(SMALL, x_fal_request_id=request_id).status_code == 200
    written = list((served.base / "output").rglob(f"*{request_id}*.mp4"))
    assert len(written) == 1
    other = served.submit(SMALL | {"prompt": "another"}, x_fal_request_id=request_id)
    assert other.status_code == 422 and other.json()["detail"][0]["loc"] == ["header", "x-fal-request-id"]


def test_a_waiting_request_is_cancelled_without_having_begun(served: Served) -> None:
    running, waiting = served.submitted(LONG), served.submitted(SMALL)
    answer = served.http.put(f"{served.url(waiting)}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "CANCELLATION_REQUESTED")
    assert served.status(waiting)["status"] == "COMPLETED"
    assert served.result(waiting).json()["error_type"] == "client_cancelled"
    served.http.put(f"{served.url(running)}/cancel")
    served.until(running, "COMPLETED")
    again = served.http.put(f"{served.url(running)}/cancel")
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")
    unknown = served.http.put(f"{served.url(new_id())}/cancel")
    assert (unknown.status_code, unknown.json()["status"]) == (404, "NOT_FOUND")


def test_a_request_is_cancelled_while_its_video_is_on_its_way(served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.mp4"
        request = {"prompt": "x", "video_url": url}
        endpoint = f"{APP}/turbo/video-to-video"
        request_id = served.http.post(f"{served.address}/fal/queue/{endpoint}", json=request).json()[
            "request_id"
        ]
        served.until(request_id, "IN_QUEUE", "Fetching the video")
        served.http.put(f"{served.url(request_id)}/cancel")
        served.until(request_id, "COMPLETED", seconds=5)
    assert served.result(request_id).json()["error_type"] == "client_cancelled"
    assert list((served.base / "user" / "fast-animatediff-endpoints-files" / "incoming").iterdir()) == []


def test_the_result_of_a_request_that_goes_on_is_not_there_yet(served: Served) -> None:
    running = served.submitted(LONG)
    assert served.result(running).status_code == 400
    served.http.put(f"{served.url(running)}/cancel")
    served.until(running, "COMPLETED")


def hang_up(served: Served, request: dict, header: str = "") -> str:
    """Asks for a result and goes away while ComfyUI works on it; returns the request's id."""
    body = json.dumps(request)
    eventually(lambda: not asked_of_comfyui(served, "queue_running"))
    with socket.create_connection(("127.0.0.1", served.server.port)) as connection:
        head = f"POST /fal/run/{TURBO} HTTP/1.1\r\nHost: localhost\r\n{header}"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        eventually(lambda: asked_of_comfyui(served, "queue_running"))
        return asked_of_comfyui(served, "queue_running")[0][1]


def test_a_client_that_hangs_up_while_it_waits_has_cancelled(served: Served) -> None:
    request_id = hang_up(served, LONG)
    served.until(request_id, "COMPLETED", seconds=20)
    assert served.result(request_id).json()["error_type"] == "client_disconnected"


def test_a_client_that_hangs_up_and_asks_again_with_the_id_it_chose_gets_the_result(served: Served) -> None:
    request, request_id = LONG | {"num_inference_steps": 12}, new_id()
    assert hang_up(served, request, f"X-Fal-Request-Id: {request_id}\r\n") == request_id
    time.sleep(1.0)  # it is seen to be gone
    answer = served.run(request, **{"x-fal-request-id": request_id})
    assert answer.status_code == 200, answer.text
    assert len(list((served.base / "output").rglob(f"*{request_id}*.mp4"))) == 1


def test_a_request_has_not_begun_while_it_waits_in_comfyuis_own_queue(served: Served) -> None:
    with busy(served):
        request_id = sent_while_busy(served, x_fal_request_timeout="4")
        assert served.status(request_id)["status"] == "IN_QUEUE"
        served.until(request_id, "COMPLETED", seconds=20)
        assert asked_of_comfyui(served, "queue_pending") == []
    answer = served.result(request_id)
    assert (answer.status_code, answer.json()["error_type"]) == (504, "request_timeout")


def test_a_request_that_is_taken_from_comfyuis_queue_in_its_interface_waits_for_its_next_turn(
    served: Served,
) -> None:
    with busy(served):
        request_id = sent_while_busy(served)
        served.http.post(f"{served.address}/queue", json={"clear": True}).raise_for_status()
        eventually(lambda: asked_of_comfyui(served, "queue_pending") == [])
        served.until(request_id, "IN_QUEUE", "ComfyUI no longer has this request", seconds=20)
        again = attempt_id(request_id, 2)
        eventually(lambda: [item[1] for item in asked_of_comfyui(served, "queue_pending")] == [again])
    served.until(request_id, "COMPLETED", seconds=60)
    assert served.result(request_id).status_code == 200


@pytest.mark.parametrize("seed", [-1, 2**64 - 1])
def test_a_seed_at_the_end_of_the_range_runs_and_is_named_by_the_result(served: Served, seed: int) -> None:
    answer = served.run(SMALL | {"seed": seed, "num_inference_steps": 1})
    assert (answer.status_code, answer.json().get("seed")) == (200, seed), answer.text


def test_the_streamed_status_tells_every_line_once_and_ends_with_the_request(served: Served) -> None:
    request_id = served.submitted(SMALL | {"seed": 5})
    text = served.http.get(f"{served.url(request_id)}/status/stream?logs=1").text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    lines = [line["message"] for event in events for line in event["logs"]]
    assert events[-1]["status"] == "COMPLETED"
    assert len(lines) == len(set(lines)) and "Sampling: step 2 of 2" in lines


def test_a_webhook_hears_of_result_and_error_and_is_tried_again(served: Served) -> None:
    heard: list[dict] = []
    answers = [500, 200, 200]

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers[len(heard) - 1])
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook = f"?fal_webhook=http://127.0.0.1:{server.server_port}/hook"
    request_id = served.submit(SMALL, hook).json()["request_id"]
    deadline = time.monotonic() + 30
    while len(heard) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    server.shutdown()
    assert [message["request_id"] for message in heard] == [request_id] * 2
    assert heard[0]["status"] == "OK" and heard[0]["payload"] == served.result(request_id).json()


def test_requests_and_answers_have_the_services_shape(served: Served) -> None:
    answer = served.submit(SMALL).json()
    url = f"{served.address}/fal/queue/{APP}/requests/{answer['request_id']}"
    assert answer["response_url"] == url
    assert (answer["status_url"], answer["cancel_url"]) == (f"{url}/status", f"{url}/cancel")
    assert answer["status"] == "IN_QUEUE" and answer["queue_position"] == 0
    served.until(answer["request_id"], "COMPLETED")
    assert served.http.get(f"{url}/status").status_code == 200
    assert served.result(answer["request_id"]).headers["x-fal-request-id"] == answer["request_id"]
    assert "not found" in served.run(SMALL, "fal-ai/fast-animatediff/other").json()["detail"]
    wrong_method = served.http.get(f"{served.address}/fal/run/{TURBO}")
    assert (wrong_method.status_code, wrong_method.headers["Allow"]) == (405, "POST")
    assert wrong_method.json() == {"detail": "Method Not Allowed"}
    assert served.http.get(f"{served.address}/fal/nothing").json() == {"detail": "Not Found"}


def test_a_body_over_the_limit_is_refused_and_a_long_prompt_is_a_problem_of_the_prompt(
    served: Served,
) -> None:
    url = f"{served.address}/fal/run/{TURBO}"
    with socket.create_connection(("127.0.0.1", served.server.port)) as connection:
        lines = [f"POST /fal/run/{TURBO} HTTP/1.1", "Host: localhost", f"Content-Length: {1 << 40}", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 413")
    answer = served.http.post(url, json=SMALL | {"prompt": "x" * 10_000_000})
    assert answer.status_code == 422 and answer.json()["detail"][0]["loc"] == ["body", "prompt"]
    assert len(answer.content) < 1000
    assert served.http.post(url, content=b"{" * 100_000).status_code == 422
