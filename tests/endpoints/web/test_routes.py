"""Addresses, parameters and headers that clients of any version, and code without a client, send."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from fast_animatediff.fleet.worker import free_port
from fast_animatediff.tests.endpoints.served import APP, SMALL, TURBO, Endpoints, Front, Served, new_id

pytestmark = pytest.mark.server
REST_HOSTS = pytest.mark.parametrize("host", ["rest.fal.ai", "rest.alpha.fal.ai"])


def proxied(served: Endpoints, target: str, body: object, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.http.post(
        f"{served.address}/fal/proxy", json=body, headers={"x-fal-target-url": target} | named
    )


@REST_HOSTS
def test_a_file_is_uploaded_by_either_name_of_the_services_rest_host(served: Served, host: str) -> None:
    target = f"https://{host}/storage/upload/initiate?storage_type=fal-cdn-v3"
    urls = proxied(served, target, {"content_type": "video/mp4", "file_name": "a.mp4"}).json()
    assert served.http.put(urls["upload_url"], content=b"abc").status_code == 200
    assert served.http.get(urls["file_url"]).content == b"abc"


@REST_HOSTS
def test_a_large_file_is_uploaded_in_parts_in_any_order_and_again(served: Served, host: str) -> None:
    target = f"https://{host}/storage/upload/initiate-multipart?storage_type=fal-cdn-v3"
    url = proxied(served, target, {"file_name": "a.mp4"}).json()["upload_url"]
    told = {}
    for number, content in ((2, b"cd"), (11, b"ef"), (1, b"no"), (1, b"ab")):
        told[number] = served.http.put(f"{url}/{number}", content=content).json()
        assert told[number]["partNumber"] == number and told[number]["etag"]
    assert served.http.get(url).status_code == 404
    missing = served.http.post(f"{url}/complete", json={"parts": [{"partNumber": 3}]})
    assert missing.status_code == 400 and "3" in missing.json()["detail"]
    assert served.http.post(f"{url}/complete", json={"parts": list(told.values())}).status_code == 200
    assert served.http.get(url).content == b"abcdef"


@pytest.mark.parametrize("body", [{}, {"parts": "1"}, {"parts": ["1"]}, {"parts": [{"partNumber": None}]}])
def test_parts_that_are_no_list_of_numbers_are_a_problem_of_that_field(served: Served, body: object) -> None:
    target = "https://rest.fal.ai/storage/upload/initiate-multipart"
    url = proxied(served, target, {"file_name": "a.mp4"}).json()["upload_url"]
    answer = served.http.post(f"{url}/complete", json=body)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "parts"])
    for number in ("0", "10001", "x"):
        assert served.http.put(f"{url}/{number}", content=b"a").status_code == 404


@pytest.mark.parametrize("header", ["X-Fal-Object-Lifecycle", "X-Fal-Object-Lifecycle-Preference"])
def test_an_upload_expires_when_its_client_wants(served: Served, header: str) -> None:
    place = f"{served.address}/fal/storage/upload/initiate"

    def upload(wanted: str) -> httpx.Response:
        return served.http.post(place, json={"file_name": "a.mp4"}, headers={header: wanted})

    short, long = (
        upload(json.dumps({"expiration_duration_seconds": seconds})).json()["file_url"] for seconds in (2, 60)
    )
    for url in (short, long):
        assert served.http.put(url, content=b"abc").status_code == 200
    time.sleep(3)
    assert [served.http.get(url).status_code for url in (short, long)] == [404, 200]
    for wrong in (
        "",
        "x",
        "[]",
        '{"expiration_duration_seconds": "soon"}',
        '{"expiration_duration_seconds": 0}',
    ):
        assert upload(wrong).status_code == 400, wrong


@pytest.mark.parametrize("host", ["fal.run", "queue.fal.run"])
def test_streams_and_realtime_connections_are_refused_in_words(served: Served, host: str) -> None:
    refused = [
        proxied(served, f"https://{host}/{TURBO}/stream", SMALL, accept="text/event-stream"),
        served.http.post(f"{served.address}/fal/run/{TURBO}/stream", json=SMALL),
        served.http.get(
            f"{served.address}/fal/run/{TURBO}/realtime",
            headers={"Connection": "Upgrade", "Upgrade": "websocket"},
        ),
        proxied(served, "https://rest.alpha.fal.ai/tokens/", {"allowed_apps": ["fast-animatediff"]}),
        proxied(served, "https://rest.fal.ai/tokens/realtime", {}),
    ]
    for answer in refused:
        assert answer.status_code == 404 and "realtime" in answer.json()["detail"], answer.text


def test_a_slash_at_the_end_changes_nothing_and_the_result_is_also_at_response(served: Served) -> None:
    queued = served.http.post(f"{served.address}/fal/queue/{TURBO}/", json=SMALL).json()
    served.until(queued["request_id"], "COMPLETED")
    result = served.http.get(queued["response_url"]).json()
    for end in ("/", "/response", "/response/"):
        assert served.http.get(queued["response_url"] + end).json() == result
    assert served.http.get(f"{queued['status_url']}/").json()["status"] == "COMPLETED"
    assert served.http.post(f"{served.address}/fal/run/{TURBO}/", json=SMALL).json()["seed"] == SMALL["seed"]
    other = proxied(served, f"https://fal.run/{TURBO}/", SMALL)
    assert other.json()["seed"] == SMALL["seed"]


def test_a_request_is_refused_where_more_wait_than_it_allows(tmp_path: Path) -> None:
    with Front(tmp_path / "front", f"http://127.0.0.1:{free_port()}") as front:  # nobody works: all wait
        known = new_id()
        for most, status in ((0, 200), (1, 200), (1, 429), (3, 200), (2, 429)):
            assert front.submit(SMALL, f"?fal_max_queue_length={most}").status_code == status
        again = [
            front.submit(SMALL, f"?fal_max_queue_length={most}", x_fal_request_id=known).status_code
            for most in (3, 0)
        ]
        assert again == [200, 200]  # the same request is not a new one
        for wrong in ("", "-1", "many", "1.5", "9" * 5000):
            answer = front.submit(SMALL, f"?fal_max_queue_length={wrong}")
            assert answer.status_code == 422
            assert answer.json()["detail"][0]["loc"][1] == "fal_max_queue_length"
        target = f"https://queue.fal.run/{TURBO}?fal_max_queue_length=0"
        assert proxied(front, target, SMALL).status_code == 429


def test_the_answer_to_an_unknown_application_names_those_that_there_are(served: Served) -> None:
    answer = served.http.post(f"{served.address}/fal/run/fal-ai/nothing", json={})
    assert answer.status_code == 404 and f"{APP}/video-to-video" in answer.json()["detail"]
