"""Inputs that another one leaves without effect can't be changed meanwhile, on both kinds of nodes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.browser
LATENT, EXPORT, SAMPLER, WINDOWS, NUMBERS, APPLY, CONTROL = (
    *("FAD_EmptyVideoLatent", "FAD_ExportVideo", "FAD_Sampler"),
    *("FAD_ContextWindows", "FAD_ValueSchedule", "FAD_ApplyMotionModule", "FAD_ControlNetStrength"),
)
NODES = [LATENT, EXPORT, SAMPLER, WINDOWS, NUMBERS, APPLY, CONTROL]
# What a person does, node by number, and what then is grey on that node. A number connects that node, None disconnects.
CHOICES = {
    (1, "video_size", "custom"): [],
    (2, "format", "gif"): ["crf"],
    (2, "format", "webm"): ["loop_count"],
    (2, "crf", 20): ["quality", "loop_count"],
    (3, "cfg", 1): ["cfg_until"],
    (4, "context_schedule", "looped_uniform"): [],
    (6, "motion_scale_per_frame", 5): ["motion_scale"],
    (6, "strength_per_frame", 5): ["strength", "motion_scale"],
    (6, "motion_scale_per_frame", None): ["strength"],
    (7, "strength_per_frame", 5): ["strength"],
}


def test_what_has_no_effect_is_grey_and_can_be_changed_again_once_it_has(visit: Callable[..., dict]) -> None:
    graph = [[kind, {}] for kind in NODES]
    result = visit("grey_inputs.js", json.dumps(graph), json.dumps([list(choice) for choice in CHOICES]))
    assert result["complaints"] == [] and result["dialogs"] == []
    for kind in ("canvas", "Nodes 2.0"):
        expected = {LATENT: ["width", "height"], EXPORT: ["loop_count"], WINDOWS: ["context_stride"]}
        seen = iter(each for each in result["seen"] if each["kind"] == kind)
        assert dict(next(seen)["grey"]) == dict.fromkeys(NODES, []) | expected
        for (number, *_), grey in CHOICES.items():
            expected[NODES[number - 1]] = grey
            now = next(seen)
            assert dict(now["grey"]) == dict.fromkeys(NODES, []) | expected, now
        for again in seen:  # the workflow opened, the nodes pasted
            assert dict(again["grey"]) == dict.fromkeys(NODES, []) | expected, again
