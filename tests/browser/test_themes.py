"""What the pack writes on nodes, in the light and in the dark theme."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.browser.coloured_clips import write_coloured

pytestmark = [pytest.mark.browser, pytest.mark.slow]
READABLE = 4.5  # WCAG 2.2, level AA


def test_what_stands_under_a_clip_can_be_read_in_light_and_dark(
    visit: Callable[..., dict], comfy_server: ComfyServer
) -> None:
    write_coloured(comfy_server.base / "input" / "themes.mp4", (200, 40, 40))
    result = visit("read_in_themes.js", "FAD_LoadVideoFrames", "themes.mp4", "dark", "light")
    assert result["complaints"] == [] and result["dialogs"] == []
    seen = {(each["kind"], each["theme"]): each for each in result["seen"]}
    assert len(seen) == 4
    for (_, theme), each in seen.items():
        assert each["line"].startswith("1.0 s, 96x64") and each["ratio"] >= READABLE, each
        assert (each["background"] > 0.5) == (theme == "light"), each
