"""Videos in requests: which bytes are one, data URIs, and files that are on the host already."""

from __future__ import annotations

import asyncio
import base64
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from fast_animatediff.endpoints.inputs.videos import PIECE, HostFile, fetch, host_file, own_path, suffix_of
from fast_animatediff.tests.endpoints.inputs.fetching import GIF, STRANGER, fetch_now, refusal
from fast_animatediff.tests.endpoints.network import Names
from fast_animatediff.tests.video.clips import write_video

# ---- what a video is


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".gif"])
def test_a_video_is_told_by_its_first_bytes(tmp_path: Path, suffix: str) -> None:
    times = [Fraction(k, 10) for k in range(4)]
    path = write_video(tmp_path / f"clip{suffix}", times)
    assert suffix_of(path.read_bytes()) == suffix


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_pictures_count_when_they_move(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), (value, 0, 0)) for value in (0, 120, 240)]
    moving, still = tmp_path / f"moving{suffix}", tmp_path / f"still{suffix}"
    frames[0].save(moving, save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(still)
    assert suffix_of(moving.read_bytes()) == suffix
    assert suffix_of(still.read_bytes()) is None


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GIF",
        b"<!doctype html><html>",
        b"the free text",
        b"%PDF-1.7",
        b"\xff\xd8\xff\xe0",
        b"{}",
        b"G" * 100,
    ],
)
def test_other_files_are_no_videos(head: bytes) -> None:
    assert suffix_of(head) is None


# ---- data URIs


def data_uri(data: bytes, mime: str = "video/mp4") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    "uri", [data_uri(GIF), data_uri(GIF, "").replace("data:", "DATA:"), "data:image/gif," + quote(GIF)]
)
def test_a_data_uri_becomes_a_file_named_by_its_content(tmp_path: Path, uri: str) -> None:
    path = fetch_now(uri, tmp_path)
    assert path.suffix == ".gif" and path.read_bytes() == GIF
    assert list(tmp_path.iterdir()) == [path]


def test_a_data_uri_with_line_breaks_and_escapes_is_read(tmp_path: Path) -> None:
    lines = base64.encodebytes(GIF).decode().replace("+", "%2B").replace("/", "%2F")
    assert fetch_now(f"data:image/gif;charset=x;base64,{lines}", tmp_path).read_bytes() == GIF


@pytest.mark.parametrize("before", range(5))
def test_an_escape_is_read_where_a_piece_ends(tmp_path: Path, before: int) -> None:
    data = GIF + bytes(PIECE - len(GIF) - before)
    uri = "data:image/gif," + data.decode() + "%00%ff"
    assert fetch_now(uri, tmp_path).read_bytes() == data + b"\x00\xff"


def test_a_data_uri_of_escapes_takes_no_more_memory_than_its_size(tmp_path: Path) -> None:
    uri = "data:image/gif," + quote(GIF) + "%00" * 500_000
    tracemalloc.start()
    try:
        assert fetch_now(uri, tmp_path).stat().st_size == len(GIF) + 500_000
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("data:video/mp4;base64", "file_download_error"),
        ("data:video/mp4;base64,!!!!", "file_download_error"),
        ("data:video/mp4;base64,QUJ", "file_download_error"),
        ("data:,", "unsupported_video_format"),
        (data_uri(b"<html>"), "unsupported_video_format"),
        (data_uri(bytes((1 << 20) + 1)), "file_too_large"),
        ("data:," + "a" * ((1 << 20) + 1), "file_too_large"),
    ],
)
def test_a_bad_data_uri_is_refused(tmp_path: Path, uri: str, kind: str) -> None:
    assert refusal(lambda: fetch_now(uri, tmp_path), tmp_path)[0] == kind


def test_a_folder_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fetch_now(data_uri(GIF), tmp_path / "gone")


@pytest.mark.parametrize("form", ["base64", "escapes"])
def test_a_large_data_uri_keeps_nothing_else_waiting(tmp_path: Path, form: str) -> None:
    data = GIF + bytes(40 << 20)
    uri = data_uri(data) if form == "base64" else "data:image/gif," + data.decode("latin-1")
    wanted = STRANGER.model_copy(update={"max_video_mb": 50})
    pauses = []  # in this process' time: the clock would count what else the machine does

    async def run() -> Path:
        fetching = asyncio.ensure_future(fetch(uri, tmp_path, wanted, Names()))
        before = time.process_time()
        while not fetching.done():
            await asyncio.sleep(0.001)
            pauses.append(time.process_time() - before)
            before = time.process_time()
        return await fetching

    assert asyncio.run(run()).stat().st_size == len(data)
    assert len(pauses) > 20 and sorted(pauses)[-2] < 0.1, sorted(pauses)[-5:]


# ---- files that are here already

OWN = ("http://127.0.0.1:8188", "https://gpu.example.com/comfy")


@pytest.mark.parametrize(
    ("url", "annotated"),
    [
        ("http://127.0.0.1:8188/view?filename=a.mp4&subfolder=&type=input", "a.mp4"),
        (
            "http://127.0.0.1:8188/view?filename=a%20b.mp4&subfolder=video&type=output",
            "video/a b.mp4 [output]",
        ),
        ("http://127.0.0.1:8188/api/view?filename=a.mp4", "a.mp4 [output]"),
        ("https://gpu.example.com/comfy/view?filename=a.mp4&type=temp", "a.mp4 [temp]"),
    ],
)
def test_a_url_of_the_hosts_view_names_the_file_itself(url: str, annotated: str) -> None:
    assert host_file(url, OWN).annotated == annotated


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8189/view?filename=a.mp4",
        "https://127.0.0.1:8188/view?filename=a.mp4",
        "https://gpu.example.com/view?filename=a.mp4",
        "http://127.0.0.1:8188/viewer?filename=a.mp4",
        "http://127.0.0.1:8188/view?filename=",
        "http://127.0.0.1:8188/view?filename=a.mp4&type=models",
        "http://127.0.0.1:8188/view?filename=../a.mp4",
        "http://127.0.0.1:8188/view?filename=a.mp4&subfolder=../..",
        "http://127.0.0.1:8188/view?filename=%2Fetc%2Fpasswd",
        "http://127.0.0.1:8188/view?filename=a.mp4%20%5Btemp%5D",
        "http://127.0.0.1:8188/view?filename=C:%5Ca.mp4",
        "data:video/mp4;base64,AAAA",
        "",
    ],
)
def test_other_urls_name_no_file_of_the_host(url: str) -> None:
    assert host_file(url, OWN) is None


def test_the_path_of_a_url_of_our_own_is_given() -> None:
    assert own_path("http://127.0.0.1:8188/fal/files/1/a.mp4?x=1", OWN) == "/fal/files/1/a.mp4?x=1"
    assert own_path("https://gpu.example.com:443/comfy/fal/files/a", OWN) == "/fal/files/a"
    assert own_path("https://gpu.example.com/comfyui/fal", OWN) is None
    assert HostFile("a.mp4", "x/y", "input").annotated == "x/y/a.mp4"
