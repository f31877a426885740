"""What a ComfyUI's address may answer that a ComfyUI does not say: it is away, and what it has is asked for again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from fast_animatediff.endpoints.comfyui.client import ComfyUI, ComfyUIGone
from fast_animatediff.endpoints.comfyui.outcome import files_of
from fast_animatediff.tests.endpoints.network import serving

FILE = {"filename": "a.mp4", "subfolder": "video", "type": "output"}


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_before_a_comfyui_that_is_away_says_nothing_of_prompts_and_files(status: int) -> None:
    async def proxy(request: web.Request) -> web.Response:
        return web.json_response({"error": "away"}, status=status)

    async def scenario() -> None:
        async with serving(proxy) as port:
            comfyui = ComfyUI(f"http://127.0.0.1:{port}")
            comfyui.start("us")
            for work in (
                comfyui.describe(FILE),
                comfyui.submit({}, "a"),
                comfyui.job("a"),
                comfyui.empty("a"),
            ):
                with pytest.raises(ComfyUIGone, match=str(status)):
                    await work
            await comfyui.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("body", ["{}", "[]", "null", "<html>", '{"state": "completed"}'])
def test_something_else_at_the_address_is_no_comfyui(tmp_path: Path, body: str) -> None:
    async def other(request: web.Request) -> web.Response:
        return web.Response(text=body)

    async def scenario() -> None:
        async with serving(other) as port:
            comfyui = ComfyUI(f"http://127.0.0.1:{port}")
            comfyui.start("us")
            for work in (comfyui.job("a"), comfyui.empty("a/b.mp4")):
                with pytest.raises(ComfyUIGone, match="ComfyUI does not say"):
                    await work
            await comfyui.close()

    asyncio.run(scenario())


def test_a_node_that_shows_something_odd_hides_no_file() -> None:
    shown = {"1": ["odd"], "2": None, "3": {"images": [FILE], "text": ["a"], "animated": [True]}}
    assert list(files_of({"outputs": shown})) == [FILE]
    assert list(files_of({"outputs": shown}, "1")) == []
