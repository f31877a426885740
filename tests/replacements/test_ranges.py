"""What conversions keep numbers to is what the nodes take."""

from __future__ import annotations

import pytest

from fast_animatediff.nodes import NODES
from fast_animatediff.replacements import controls, prompts, videos

INPUTS = {node.GET_SCHEMA().node_id: {each.id: each for each in node.GET_SCHEMA().inputs} for node in NODES}


@pytest.mark.parametrize(
    ("most", "node", "name"),
    [
        (controls.MOST_FRAMES, "FAD_ValueSchedule", "num_frames"),
        (controls.MOST_STRENGTH, "FAD_ControlNetStrength", "strength"),
        (prompts.MOST_FRAMES, "FAD_PromptSchedule", "num_frames"),
        (videos.MOST_FPS, "FAD_LoadVideoFrames", "fps"),
        (videos.MOST_FPS, "FAD_ExportVideo", "fps"),
        (videos.MOST_FRAMES, "FAD_LoadVideoFrames", "max_frames"),
    ],
)
def test_a_range_is_that_of_the_nodes_input(most: float, node: str, name: str) -> None:
    assert INPUTS[node][name].max == most
