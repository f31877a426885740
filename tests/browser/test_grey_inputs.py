"""Inputs that another one leaves without effect can't be changed meanwhile, on both kinds of nodes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.browser
LATENT, EXPORT, SAMPLER, WINDOWS, NUMBERS, APPLY, CONTROL, MASK = (
    *("FAD_EmptyVideoLatent", "FAD_ExportVideo", "FAD_Sampler"),
    *(
        "FAD_ContextWindows",
        "FAD_ValueSchedule",
        "FAD_ApplyMotionModule",
        "FAD_ControlNetStrength",
        "SolidMask",
    ),
)
NODES = [LATENT, EXPORT, SAMPLER, WINDOWS, NUMBERS, APPLY, CONTROL, MASK]
# What a person does, node by number, and what then is grey on that node. A number connects that node, None disconnects.
CHOICES = {
    (1, "video_size", "custom"): [],
    (2, "format", "gif"): ["crf"],
    (2, "format", "webm"): ["loop_count"],
    (2, "crf", 20): ["quality", "loop_count"],
    (3, "cfg", 1): ["cfg_until"],
    (4, "context_schedule", "looped_uniform"): [],
    (6, "motion_scale_per_frame", 5): ["motion_scale", "still_background"],
    (6, "strength_per_frame", 5): ["strength", "motion_scale", "still_background"],
    (6, "mask", 8): ["strength", "motion_scale"],
    (6, "motion_scale_per_frame", None): ["strength"],
    (7, "strength_per_frame", 5): ["strength"],
}


def test_what_has_no_effect_is_grey_and_can_be_changed_again_once_it_has(visit: Callable[..., dict]) -> None:
    graph = [[kind, {}] for kind in NODES]
    result = visit("grey_inputs.js", json.dumps(graph), json.dumps([list(choice) for choice in CHOICES]))
    assert result["complaints"] == [] and result["dialogs"] == []
    for kind in ("canvas", "Nodes 2.0"):
        expected = {LATENT: ["width", "height"], EXPORT: ["loop_count"], WINDOWS: ["context_stride"]}
        expected[APPLY] = ["still_background"]
        seen = iter(each for each in result["seen"] if each["kind"] == kind)
        assert of_ours(next(seen)) == dict.fromkeys(NODES[:-1], []) | expected
        for (number, *_), grey in CHOICES.items():
            expected[NODES[number - 1]] = grey
            now = next(seen)
            assert of_ours(now) == dict.fromkeys(NODES[:-1], []) | expected, now
        for again in seen:  # the workflow opened, the nodes pasted
            assert of_ours(again) == dict.fromkeys(NODES[:-1], []) | expected, again


def of_ours(seen: dict) -> dict[str, list[str]]:
    """What is grey, node by node, but for core's mask."""
    return {kind: names for kind, names in seen["grey"] if kind != MASK}
