"""The templates as people meet them: found by the words they know, with pictures, and opened without an error."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import API_NAMES, PREFIX, ui_file

pytestmark = pytest.mark.browser
# The host finds a word that begins within the first 33 letters of a name.
WORDS = {
    "animatediff": list(API_NAMES),
    "sd1.5": list(API_NAMES),
    "video to video": [name for name in API_NAMES if "Video to Video" in name],
    "gif": ["Text to Video GIF Loop"],
    "controlnet": ["Video to Video ControlNet"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["canvas", "Nodes 2.0"])
def test_the_templates_are_found_by_words_and_have_pictures_and_their_first_video(
    visit: Callable[..., dict], comfy_server: ComfyServer, kind: str
) -> None:
    clip = comfy_server.base / "input" / "moving circle.mp4"
    before = clip.read_bytes()
    clip.unlink()
    try:
        title = ui_file("Video to Video").stem
        result = visit("open_templates.js", kind, str(len(API_NAMES)), title, json.dumps(list(WORDS)))
        shipped = clip.read_bytes()
    finally:
        clip.write_bytes(before)
    assert result["complaints"] == [] and result["dialogs"] == []
    for word, names in WORDS.items():
        assert sorted(result["found"][word]) == sorted(PREFIX + name for name in names)
    assert result["pictures"] == [[320, 320]] * len(API_NAMES)
    assert [picture["file"] for picture in result["opened"]] == [clip.name]
    assert (
        shipped
        == (comfy_server.base / "custom_nodes/fast-animatediff/nodes/web/clips" / clip.name).read_bytes()
    )
