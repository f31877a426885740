"""The clip on AnimateDiff Sampler while it is being made."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable

import pytest
from PIL import Image, ImageChops, ImageSequence

from fast_animatediff.tests.workflows.graphs import ui_file

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_the_clip_moves_on_the_sampler_and_covers_no_other_node(visit: Callable[..., dict]) -> None:
    result = visit("watch_sampling.js", ui_file("Text to Video"), "latent2rgb")
    assert result["complaints"] == [] and result["dialogs"] == []
    for seen in result["seen"].values():
        assert seen["hosts"] == 0  # the host's own still of the first frame
        content = base64.b64decode(seen["picture"].removeprefix("data:image/webp;base64,"))
        with Image.open(io.BytesIO(content)) as picture:
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
        assert len(frames) == 8
        assert any(ImageChops.difference(frames[0], frame).getbbox() for frame in frames)
        for (one, a), (other, b) in itertools.combinations(seen["boxes"].items(), 2):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{one} and {other}"
