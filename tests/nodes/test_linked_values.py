"""Values that no widget gives, but a link may: a sentence, or what they mean."""

from __future__ import annotations

import math

import pytest
from test_video_nodes import WHOLE, clip_in_input, export, grey

from fast_animatediff.nodes.load_video import LoadVideoFrames
from fast_animatediff.nodes.load_video_latents import LoadVideoLatents

pytestmark = pytest.mark.usefixtures("folders")


@pytest.mark.parametrize("node", [LoadVideoFrames, LoadVideoLatents])
def test_a_linked_file_is_checked_when_the_node_runs(node) -> None:
    """The host checks prompts before any node runs, with None for what is linked."""
    assert node.validate_inputs(None) is True
    first, second = (node.fingerprint_inputs(None, **WHOLE) for _ in range(2))
    assert math.isnan(first) and {(0, first)} != {(0, second)}, "the host takes it for a change"


@pytest.mark.parametrize("fps", [math.inf, -math.inf, math.nan])
def test_a_rate_that_is_no_number_is_refused_with_a_sentence(folders, fps) -> None:
    with pytest.raises(ValueError, match="fps must be a finite number, not"):
        export(grey(2), fps=fps)
    with pytest.raises(ValueError, match="fps must be a finite number, not"):
        LoadVideoFrames.execute(clip_in_input(folders), **{**WHOLE, "fps": fps})


def test_a_rate_too_low_to_be_told_from_zero_is_not_taken_for_every_frame(folders) -> None:
    with pytest.raises(ValueError, match="fps must be above 0.0005, not 0.0004"):
        LoadVideoFrames.execute(clip_in_input(folders), **{**WHOLE, "fps": 0.0004})


@pytest.mark.parametrize("name", ["first_n_seconds", "start_seconds"])
def test_seconds_that_are_no_number_are_refused_with_a_sentence(folders, name) -> None:
    with pytest.raises(ValueError, match="Seconds must be a finite number, not inf"):
        LoadVideoFrames.execute(clip_in_input(folders), **{**WHOLE, name: math.inf})
