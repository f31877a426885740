"""Files while others are served: no disk is waited for on the event loop, and what is told of is on the disk."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fast_animatediff.endpoints.comfyui.client import ComfyUI
from fast_animatediff.endpoints.inputs.uploads import Uploads
from fast_animatediff.endpoints.inputs.videos import fetch
from fast_animatediff.endpoints.protocol.answers import Video
from fast_animatediff.endpoints.protocol.settings import Settings
from fast_animatediff.endpoints.requests.results import Results
from fast_animatediff.endpoints.requests.signing import Signer
from fast_animatediff.endpoints.serving import front
from fast_animatediff.tests.endpoints.network import Names
from fast_animatediff.tests.endpoints.served import new_id

MADE = b"\0\0\0\x18ftypisom" + bytes(3_000_000)


class Showing(ComfyUI):
    """Has made one video."""

    @asynccontextmanager
    async def open(self, *_: Any) -> AsyncIterator[Any]:
        async def pieces(size: int) -> AsyncIterator[bytes]:
            for start in range(0, len(MADE), size):
                yield MADE[start : start + size]

        yield SimpleNamespace(
            status=200, content_length=len(MADE), content=SimpleNamespace(iter_chunked=pieces)
        )


async def fetched(folder: Path) -> Path:
    video = Video(
        filename="a.mp4",
        subfolder="video",
        type="output",
        content_type="video/mp4",
        file_size=len(MADE),
        worker="http://host",
        seed=1,
    )
    results, request_id = Results(folder, None), new_id()
    await results.fetch(video, Showing("http://host"), request_id)
    return results.path(request_id, "a.mp4")


@pytest.mark.skipif(os.name != "posix", reason="folders can't be opened there")
def test_a_result_and_its_folder_are_on_the_disk_before_anyone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int | list[str]] = []

    def sync(handle: int) -> None:
        status = os.fstat(handle)
        synced.append(os.listdir(handle) if stat.S_ISDIR(status.st_mode) else status.st_size)

    monkeypatch.setattr(os, "fsync", sync)
    path = asyncio.run(fetched(tmp_path))
    assert path.read_bytes() == MADE
    assert synced == [len(MADE), ["a.mp4"], [path.parent.name]]


@pytest.mark.parametrize("kind", ["result", "upload", "video"])
def test_a_file_is_gone_where_whoever_wrote_it_is_stopped_while_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    begun, going_on, replace = threading.Event(), threading.Event(), os.replace

    def slow(*paths: Path) -> None:
        replace(*paths)
        begun.set()
        going_on.wait(5)

    async def pieces() -> AsyncIterator[bytes]:
        yield MADE

    async def scenario() -> None:
        uri = f"data:video/mp4;base64,{base64.b64encode(MADE).decode()}"
        uploads = Uploads(tmp_path, len(MADE), keep=60)
        if kind == "video":
            writing = asyncio.create_task(fetch(uri, tmp_path, Settings(), Names()))
        elif kind == "result":
            writing = asyncio.create_task(fetched(tmp_path))
        else:
            writing = asyncio.create_task(uploads.write(uploads.new("a.mp4"), pieces()))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.sleep(0.1)
        going_on.set()
        with pytest.raises(asyncio.CancelledError):
            await writing

    monkeypatch.setattr(os, "replace", slow)
    asyncio.run(scenario())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.listdir", "os.scandir", "sqlite3.connect")
seen: list[str] = []
watched: list[Path] = []


def watch(event: str, values: tuple[Any, ...]) -> None:
    if watched and event in EVENTS and threading.current_thread() is threading.main_thread():
        if str(values[0]).startswith(str(watched[0])):
            seen.append(f"{event} {values[0]}")


@pytest.fixture
def file_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What this thread asks of the files in the test's folder meanwhile."""
    ask = os.stat

    def stat_of(path: Any, *more: Any, **options: Any) -> os.stat_result:
        watch("open", (path,))
        return ask(path, *more, **options)

    monkeypatch.setattr(os, "stat", stat_of)
    if watch not in hooked:
        sys.addaudithook(watch)  # which stays for as long as the process does
        hooked.append(watch)
    seen.clear()
    watched.append(tmp_path)
    yield seen
    watched.clear()


hooked: list[Any] = []


def test_no_disk_is_waited_for_on_the_event_loop(tmp_path: Path, file_work: list[str]) -> None:
    app = front(Settings(database=tmp_path / "requests.sqlite3"))

    async def scenario() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/fal"
        async with aiohttp.ClientSession(raise_for_status=True) as http:
            for kind in ("initiate", "initiate-multipart"):
                async with http.post(f"{base}/storage/upload/{kind}", json={"file_name": "a.mp4"}) as answer:
                    url = (await answer.json())["upload_url"]
                if kind == "initiate":
                    await http.put(url, data=MADE)
                else:
                    for part in (1, 2):
                        await http.put(f"{url}/{part}", data=MADE)
                    parts = {"parts": [{"partNumber": part} for part in (1, 2)]}
                    await http.post(f"{url}/complete", json=parts)
                async with http.get(url) as answer:
                    assert len(await answer.read()) in (len(MADE), 2 * len(MADE))
            async with http.get(f"{base}/.well-known/jwks.json") as answer:
                assert await answer.json()
        await runner.cleanup()
        uri = f"data:video/mp4;base64,{base64.b64encode(MADE).decode()}"
        await asyncio.to_thread((tmp_path / "incoming").mkdir)
        await fetch(uri, tmp_path / "incoming", Settings(), Names())
        await fetched(tmp_path / "results")

    asyncio.run(scenario())
    assert file_work == []
    assert Signer(tmp_path / "requests-files" / "webhook-key").key_set()
    assert [path.suffix for path in (tmp_path / "incoming").iterdir()] == [".mp4"]
