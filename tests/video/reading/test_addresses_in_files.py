"""Files that name other files or addresses: none of them is opened."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import numbers
from test_hostile import load


@pytest.fixture
def served() -> Iterator[tuple[str, list[str]]]:
    """The address of a local web server and the requests that it has seen."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("buffered", [False, True], ids=["file", "buffer"])
def test_a_list_of_other_files_named_mp4_opens_none_of_them(tmp_path, clip, buffered, monkeypatch) -> None:
    path = tmp_path / "upload.mp4"
    path.write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"upload\.mp4 could not be opened"):
        load(io.BytesIO(path.read_bytes()) if buffered else str(path), "upload.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
@pytest.mark.parametrize("buffered", [False, True], ids=["file", "buffer"])
def test_a_playlist_fetches_nothing(tmp_path, served, suffix, buffered) -> None:
    address, requests = served
    path = tmp_path / f"upload{suffix}"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/a.ts\n#EXT-X-ENDLIST\n")
    buffer = io.BytesIO(path.read_bytes())
    buffer.name = path.name
    with pytest.raises(ValueError, match="could not be opened"):
        load(buffer if buffered else str(path), path.name)
    assert not requests


def test_addresses_and_other_protocols_are_not_opened(tmp_path, served, clip, monkeypatch) -> None:
    address, requests = served
    monkeypatch.chdir(tmp_path)
    for text in (
        f"{address}/a.mp4",
        f"concat:{clip.name}|{clip.name}",
        f"subfile,,start,0,end,99,,:{clip}",
        "pipe:0",
    ):
        with pytest.raises(FileNotFoundError):
            load(text)
    assert not requests


def test_a_file_whose_name_looks_like_a_protocol_is_only_a_file(tmp_path, clip, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("concat:a|b").write_bytes(clip.read_bytes())
    assert numbers(load("concat:a|b").images)[:3] == [0, 3, 6]
