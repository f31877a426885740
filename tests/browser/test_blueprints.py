"""The pack's subgraph blueprints, taken from the node library."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
BLUEPRINTS = {
    "AnimateDiff Model": (
        ["motion_module", "strength"],
        ["MODEL"],
        ["FAD_LoadMotionModule", "FAD_MotionLora", "FAD_ApplyMotionModule"],
    ),
    "Video to Latents": (
        ["file", "first_n_seconds", "fps"],
        ["LATENT", "FLOAT", "AUDIO"],
        ["FAD_LoadVideoFrames", "VAEEncode"],
    ),
}


def test_the_blueprints_are_in_the_library_with_their_widgets_outside(visit: Callable[..., dict]) -> None:
    result = visit("use_blueprints.js", *BLUEPRINTS)
    assert result["complaints"] == [] and result["dialogs"] == []
    assert len(result["made"]) == 2 * len(BLUEPRINTS)
    for made in result["made"]:
        (node,) = made["found"]
        assert (node["widgets"], node["outputs"], node["inside"]) == BLUEPRINTS[node["title"]]
