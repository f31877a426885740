"""The templates as people meet them: with pictures, and opened without an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import API_NAMES, ui_file

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("kind", ["canvas", pytest.param("Nodes 2.0", marks=pytest.mark.slow)])
def test_the_templates_have_pictures_and_the_first_video_comes_with_them(
    visit: Callable[..., dict], comfy_server: ComfyServer, kind: str
) -> None:
    clip = comfy_server.base / "input" / "moving circle.mp4"
    before = clip.read_bytes()
    clip.unlink()
    try:
        result = visit("open_templates.js", kind, str(len(API_NAMES)), ui_file("Video to Video").stem)
        shipped = clip.read_bytes()
    finally:
        clip.write_bytes(before)
    assert result["complaints"] == [] and result["dialogs"] == []
    assert result["pictures"] == [[320, 320]] * len(API_NAMES)
    assert [picture["file"] for picture in result["opened"]] == [clip.name]
    assert (
        shipped
        == (comfy_server.base / "custom_nodes/fast-animatediff/nodes/web/clips" / clip.name).read_bytes()
    )
