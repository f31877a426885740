"""What tests of videos share: a small video, settings with narrow limits, and the problem of a video that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from fast_animatediff.endpoints.inputs.videos import fetch
from fast_animatediff.endpoints.protocol.failure import Refused
from fast_animatediff.endpoints.settings import Settings
from fast_animatediff.tests.endpoints.network import Names, serving

GIF = b"GIF89a" + bytes(2000)
HERE = Settings(allowed_hosts=("127.0.0.1",), fetch_seconds=5, max_video_mb=1)
STRANGER = Settings(fetch_seconds=5, max_video_mb=1)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def answer_gif(request: web.Request) -> web.Response:
    return web.Response(body=GIF, content_type="text/plain")


def fetch_now(url: str, folder: Path, wanted: Settings = STRANGER, names: Names | None = None) -> Path:
    return asyncio.run(fetch(url, folder, wanted, names or Names()))


def fetch_from(handler: Handler, folder: Path, wanted: Settings = HERE, path: str = "/clip") -> Path:
    async def run() -> Path:
        async with serving(handler) as port:
            return await fetch(f"http://127.0.0.1:{port}{path}", folder, wanted, Names())

    return asyncio.run(run())


def refusal(action: Callable[[], object], folder: Path) -> tuple[str, str]:
    """Type and message of the problem, as the client gets them; the folder has to be empty afterwards."""
    with pytest.raises(Refused) as caught:
        action()
    (problem,) = caught.value.failure.detail
    assert problem["loc"] == ["body", "video_url"] and problem["msg"] == str(caught.value)
    assert list(folder.iterdir()) == []
    return problem["type"], problem["msg"]
