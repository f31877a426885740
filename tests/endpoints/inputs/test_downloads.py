"""Videos from http: what is fetched, what is refused, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from fast_animatediff.endpoints.inputs.addresses import Names as SystemNames
from fast_animatediff.endpoints.inputs.addresses import is_public
from fast_animatediff.endpoints.inputs.videos import _redirected, fetch
from fast_animatediff.endpoints.protocol.failure import Refused
from fast_animatediff.tests.endpoints.inputs.fetching import (
    GIF,
    HERE,
    STRANGER,
    Handler,
    answer_gif,
    fetch_from,
    fetch_now,
    refusal,
)
from fast_animatediff.tests.endpoints.network import Names, Recorder, serving


def test_a_video_is_downloaded_whatever_the_server_calls_it(tmp_path: Path) -> None:
    path = fetch_from(answer_gif, tmp_path)
    assert path.suffix == ".gif" and path.read_bytes() == GIF


def test_the_server_learns_nothing_but_the_path_and_our_name(tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(request.headers)
        return await answer_gif(request)

    fetch_from(handler, tmp_path)
    assert set(seen) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    assert seen["User-Agent"] == "fast-animatediff" and seen["Accept-Encoding"] == "identity"


def test_redirects_are_followed_to_the_video(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/clip":
            raise web.HTTPFound("/other%20place?a=b")
        return await answer_gif(request)

    assert fetch_from(handler, tmp_path).read_bytes() == GIF


def test_line_breaks_in_a_url_add_no_header(tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(request.headers)
        return await answer_gif(request)

    fetch_from(handler, tmp_path, path="/clip HTTP/1.1\r\nX-Evil: 1\r\n\r\n?a=\r\nX-Evil: 2")
    assert "X-Evil" not in seen


async def never_there(request: web.Request) -> web.Response:
    raise web.HTTPFound("/clip")


async def nowhere(request: web.Request) -> web.Response:
    return web.Response(status=302)


async def to_a_file(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "file:///etc/passwd"})


async def missing(request: web.Request) -> web.Response:
    return web.Response(status=404, body=GIF)


async def empty(request: web.Request) -> web.Response:
    return web.Response(body=b"")


async def page(request: web.Request) -> web.Response:
    return web.Response(body=b"<!doctype html>" + bytes(500), content_type="video/mp4")


async def bomb(request: web.Request) -> web.Response:
    body = gzip.compress(GIF + bytes(50 << 20))
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


async def announced(request: web.Request) -> web.Response:
    return web.Response(body=GIF + bytes(1 << 20))


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(GIF)
    while True:
        await response.write(bytes(1 << 16))


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    await response.write(GIF)
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    ("handler", "kind", "words"),
    [
        (never_there, "file_download_error", "redirected more than 5 times"),
        (nowhere, "file_download_error", "redirected to nowhere"),
        (to_a_file, "file_download_error", "http or https"),
        (missing, "file_download_error", "HTTP 404"),
        (empty, "file_download_error", "empty file"),
        (bomb, "file_download_error", "compressed"),
        (cut_off, "file_download_error", "connection failed"),
        (page, "unsupported_video_format", "not a video"),
        (announced, "file_too_large", "larger than 1 MiB"),
        (endless, "file_too_large", "larger than 1 MiB"),
    ],
)
def test_a_bad_answer_is_refused_and_leaves_nothing(
    tmp_path: Path, handler: Handler, kind: str, words: str
) -> None:
    found, message = refusal(lambda: fetch_from(handler, tmp_path), tmp_path)
    assert found == kind and words in message


def test_a_download_ends_when_its_time_is_up(tmp_path: Path) -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"G")
            await asyncio.sleep(0.02)

    hurried = HERE.model_copy(update={"fetch_seconds": 0.3})
    kind, message = refusal(lambda: fetch_from(dripping, tmp_path, hurried), tmp_path)
    assert kind == "file_download_error" and "0.3 seconds" in message


def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        begun = asyncio.Event()

        async def stalling(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(GIF)
            begun.set()
            await asyncio.sleep(60)
            return response

        async with serving(stalling) as port:
            task = asyncio.create_task(fetch(f"http://127.0.0.1:{port}/clip", tmp_path, HERE, Names()))
            await begun.wait()
            assert list(tmp_path.iterdir())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_in_the_environment_is_not_used(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    refusal(lambda: fetch_now("http://93.184.215.14/a.mp4", tmp_path), tmp_path)
    assert recorder.stopped == [("93.184.215.14", 80)] and recorder.tried == recorder.stopped


@pytest.mark.parametrize(
    "url",
    [
        "",
        "clip.mp4",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://example.com/a.mp4",
        "http://",
        "http:///a.mp4",
        "//example.com/a.mp4",
        "http://user:secret@example.com/a.mp4",
        "http://example.com:99999/a.mp4",
        "http://[::1/a.mp4",
        "http://no\x00name/a.mp4",
        "\ud800",
    ],
)
def test_what_is_no_web_address_is_refused(tmp_path: Path, recorder: Recorder, url: str) -> None:
    assert refusal(lambda: fetch_now(url, tmp_path), tmp_path)[0] == "file_download_error"
    assert recorder.tried == [] and recorder.looked_up == []


def test_a_name_that_no_resolver_takes_is_refused(tmp_path: Path, recorder: Recorder) -> None:
    async def run() -> Path:
        return await fetch(f"http://{'a' * 80}.example/a", tmp_path, STRANGER, SystemNames())

    assert refusal(lambda: asyncio.run(run()), tmp_path)[0] == "file_download_error"


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    with pytest.raises(Refused, match="from https to http"):
        _redirected(URL("https://example.com/a"), "http://example.com/b")
    assert str(_redirected(URL("https://example.com/a/b"), "c")) == "https://example.com/a/c"


@given(
    st.text(max_size=60)
    | st.text(max_size=40).map("http://".__add__)
    | st.text(max_size=40).map("data:".__add__)
)
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_problem_and_no_connection(
    tmp_path_factory: pytest.TempPathFactory, hook: Recorder, url: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    with hook.watch():
        try:
            fetch_now(url, folder).unlink()
        except Refused as error:
            assert error.failure.detail
    assert hook.looked_up == [] and list(folder.iterdir()) == []
    assert all(is_public(address) for address, _ in hook.tried)
