"""Files that clients send before a request, and results that lie elsewhere than behind the host's own /view."""

from __future__ import annotations

import re

import httpx
import pytest

from fast_animatediff.dev_server.set_up import clips
from fast_animatediff.tests.endpoints.served import APP, SECONDS, SMALL, TURBO, Served

pytestmark = pytest.mark.server
TO_VIDEO = f"{APP}/turbo/video-to-video"
FAST = {"prompt": "x", "strength": 0, "first_n_seconds": 2, "fps": 1}


def clip(served: Served) -> bytes:
    return next(path for path in clips(served.base) if path.suffix == ".mp4").read_bytes()


def test_an_uploaded_file_with_any_name_becomes_the_video_and_is_given_back_as_a_download(
    served: Served,
) -> None:
    place = f"{served.address}/fal/storage/upload/initiate"
    for name in ("\u043a\u043b\u0438\u043f 1.mp4", "../../x.mp4", ".mp4"):
        url = served.http.post(place, json={"file_name": name}).json()["file_url"]
        assert served.http.get(url).status_code == 404
        assert served.http.put(url, content=clip(served)).status_code == 200
        back = served.http.get(url)
        assert back.content == clip(served) and back.headers["Content-Disposition"] == "attachment"
    answer = served.run(FAST | {"video_url": url}, TO_VIDEO)
    assert answer.status_code == 200, answer.text
    assert served.http.post(place, json={"file_name": 5}).json()["detail"][0]["loc"] == ["body", "file_name"]
    unknown = url.replace(url.split("/")[-2], "0" * 32)
    assert served.http.put(unknown, content=b"x").status_code == 404


def test_an_upload_keeps_its_name_whatever_it_is(served: Served) -> None:
    place = f"{served.address}/fal/storage/upload/initiate"
    url = served.http.post(place, json={"file_name": "part"}).json()["file_url"]
    assert served.http.put(url, content=b"abc").status_code == 200
    assert served.http.get(url).content == b"abc"


def test_a_body_that_is_not_encoded_as_it_says_is_the_clients_fault(served: Served) -> None:
    wrong = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = served.http.post(f"{served.address}/fal/queue/{TURBO}", content=b"no gzip", headers=wrong)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


def test_a_results_url_ends_in_its_name_and_can_be_read_in_parts_and_be_the_next_video(
    served: Served,
) -> None:
    for address in (f"{served.address}/fal", f"https://{served.secure}/fal"):
        with httpx.Client(verify=served.trust, timeout=SECONDS) as http:
            video = http.post(f"{address}/run/{TURBO}", json=SMALL | {"num_frames": 16}).json()["video"]
            assert re.fullmatch(
                re.escape(f"{address}/files/") + "[0-9a-f-]{36}/" + re.escape(video["file_name"]),
                video["url"],
            )
            whole = http.get(video["url"])
            assert (len(whole.content), whole.headers["Content-Type"]) == (video["file_size"], "video/mp4")
            assert whole.headers["ETag"], "without one, browsers can't go on with a download"
            part = http.get(video["url"], headers={"Range": "bytes=4-7"})
            assert (part.status_code, part.content) == (206, b"ftyp")
            asked = http.head(video["url"])
            assert (asked.status_code, asked.headers["Content-Length"]) == (200, str(video["file_size"]))
            again = http.post(f"{address}/run/{TO_VIDEO}", json=FAST | {"video_url": video["url"]})
            assert again.status_code == 200, again.text
            assert http.get(f"{video['url']}.txt").status_code == 404
    crossed = served.run(FAST | {"video_url": video["url"]}, TO_VIDEO)
    assert crossed.status_code == 200, "a result of the one port is a video of the other"


def test_a_file_that_the_host_shows_can_be_the_video_where_the_client_could_see_it_itself(
    served: Served,
) -> None:
    name = clips(served.base)[0].name
    answer = served.run(FAST | {"video_url": f"{served.address}/view?filename={name}&type=input"}, TO_VIDEO)
    assert answer.status_code == 200, answer.text
    gone = served.run(FAST | {"video_url": f"{served.address}/view?filename=no.mp4&type=input"}, TO_VIDEO)
    assert gone.status_code == 422 and gone.json()["detail"][0]["loc"] == ["body", "video_url"]
    hidden = FAST | {"video_url": f"https://{served.secure}/view?filename={name}&type=input"}
    url = f"https://{served.secure}/fal/run/{TO_VIDEO}"
    assert httpx.post(url, json=hidden, verify=served.trust, timeout=60).status_code == 422
