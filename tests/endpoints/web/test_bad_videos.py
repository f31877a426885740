"""A request whose video can't be had ends in a problem of its `video_url`, and nothing of it stays on the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fast_animatediff.tests.endpoints.served import APP, Served

pytestmark = pytest.mark.server
HALF_A_GIF = b"GIF89a" + bytes(500)
ANSWERS = {"/missing": (404, b""), "/page": (200, b"<!doctype html>" * 100), "/broken.gif": (200, HALF_A_GIF)}


class Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://192.168.1.1/a.mp4")
            self.end_headers()
            return
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    """The address of a web server on this machine, which the settings of `served` allow."""
    with HTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_video_that_comfyui_takes_no_upload_of_is_told_at_the_field(served: Served) -> None:
    place = f"{served.address}/fal/storage/upload/initiate"
    url = served.http.post(place, json={"file_name": "a.mp4"}).json()["file_url"]
    assert served.http.put(url, content=bytes(101 << 20)).status_code == 200
    answer = served.run({"prompt": "x", "video_url": url}, f"{APP}/turbo/video-to-video")
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["detail"]
    assert (problem["loc"], problem["type"]) == (["body", "video_url"], "file_too_large")
    assert "--max-upload-size" in problem["msg"]


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("file:///etc/passwd", "file_download_error", "must be an http or https URL"),
        ("http://localhost:1/a.mp4", "file_download_error", "localhost does not lead to a public address"),
        ("http://10.0.0.1/a.mp4", "file_download_error", "10.0.0.1 does not lead to a public address"),
        ("http://169.254.169.254/meta", "file_download_error", "does not lead to a public address"),
        ("http://[::ffff:127.0.0.1]/a.mp4", "file_download_error", "does not lead to a public address"),
        ("{files}/away", "file_download_error", "192.168.1.1 does not lead to a public address"),
        ("{files}/missing", "file_download_error", "HTTP 404"),
        ("{files}/page", "unsupported_video_format", "This is not a video"),
        ("{files}/broken.gif", "video_load_error", ""),
        ("data:video/mp4;base64,AAAA", "unsupported_video_format", "This is not a video"),
    ],
)
def test_it_is_told_at_the_field_and_leaves_nothing(
    served: Served, files: str, url: str, kind: str, words: str
) -> None:
    request = {"prompt": "x", "video_url": url.format(files=files)}
    answer = served.run(request, f"{APP}/turbo/video-to-video")
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["detail"]
    assert (problem["loc"], problem["type"]) == (["body", "video_url"], kind)
    assert words in problem["msg"] and str(served.base) not in problem["msg"]
    left = [path for folder in ("user", "temp", "input") for path in (served.base / folder).rglob("*")]
    assert [path for path in left if path.suffix == ".part" or "incoming" in path.parts[:-1]] == []
    assert not any(
        path.stat().st_size for path in left if path.is_file() and "fast-animatediff" in path.parts
    )
