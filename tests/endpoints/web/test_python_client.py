"""Code written for the hosted service with fal-client, against this server; it speaks https only."""

from __future__ import annotations

import io

import av
import httpx
import pytest

from fast_animatediff.tests.endpoints.served import LONG, Served

pytestmark = pytest.mark.server


def frames(content: bytes) -> int:
    with av.open(io.BytesIO(content)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_subscribe_shows_the_sampling_steps_and_gives_a_video_that_plays(served: Served) -> None:
    told = served.python("""
lines = []
def update(status):
    if isinstance(status, (fal_client.InProgress, fal_client.Completed)):
        lines.extend(log["message"] for log in status.logs if log["message"] not in lines)
result = fal_client.subscribe(APP, arguments=INPUT | {"seed": 11}, with_logs=True, on_queue_update=update)
print(json.dumps({"result": result, "lines": lines}))
""")
    video = told["result"]["video"]
    assert told["result"]["seed"] == 11
    assert [line for line in told["lines"] if "step" in line] == [
        "Sampling: step 1 of 2",
        "Sampling: step 2 of 2",
    ]
    assert told["lines"][-1] == "Encoding the video"
    assert video["content_type"] == "video/mp4"
    assert video["url"].startswith(f"https://{served.secure}/") and video["url"].endswith(video["file_name"])
    content = httpx.get(video["url"], verify=served.trust).content
    assert len(content) == video["file_size"]
    assert frames(content) == 2


def test_submit_gives_a_handle_that_finds_status_and_result_again_by_its_id(served: Served) -> None:
    told = served.python("""
handle = fal_client.submit(APP, arguments=INPUT)
result = fal_client.result(APP, handle.request_id)
status = fal_client.status(APP, handle.request_id, with_logs=True)
print(json.dumps([result, handle.get(), type(status).__name__, status.metrics]))
""")
    assert told[0] == told[1]
    assert told[2] == "Completed" and told[3]["inference_time"] > 0


def test_run_and_the_async_client_give_the_result(served: Served) -> None:
    told = served.python("""
async def both():
    return [await fal_client.run_async(APP, arguments=INPUT), await fal_client.subscribe_async(APP, arguments=INPUT)]
print(json.dumps([fal_client.run(APP, arguments=INPUT), *asyncio.run(both())]))
""")
    assert all(result["video"]["file_size"] > 0 for result in told)


def test_cancel_ends_a_running_request_as_cancelled_by_the_client(served: Served) -> None:
    told = served.python("""
import time
handle = fal_client.submit(APP, arguments=LONG)
while not (isinstance(status := handle.status(with_logs=True), fal_client.InProgress) and len(status.logs) > 1):
    time.sleep(0.05)
handle.cancel()
try:
    handle.get()
except fal_client.FalClientHTTPError as error:
    print(json.dumps([error.status_code, error.error_type, error.message]))
""")
    assert told == [499, "client_cancelled", "The request was cancelled by the client."]


def test_a_wrong_value_raises_the_list_of_problems(served: Served) -> None:
    told = served.python("""
try:
    fal_client.subscribe(APP, arguments=INPUT | {"fps": 99, "num_frames": "many"})
except fal_client.FalClientHTTPError as error:
    print(json.dumps([error.status_code, error.message]))
""")
    assert told[0] == 422
    assert [problem["loc"] for problem in told[1]] == [["body", "num_frames"], ["body", "fps"]]


def test_a_start_timeout_that_passes_ends_the_request_with_504(served: Served) -> None:
    before = served.submitted(LONG)
    try:
        told = served.python("""
handle = fal_client.submit(APP, arguments=INPUT, start_timeout=1.2)
try:
    handle.get()
except fal_client.FalClientHTTPError as error:
    print(json.dumps([error.status_code, error.error_type, error.response_headers["x-fal-request-timeout-type"]]))
""")
    finally:
        served.http.put(f"{served.url(before)}/cancel")
    assert told == [504, "request_timeout", "user"]
