"""What the pack warns of, read where people look: whole, on the node, in both kinds of nodes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fast_animatediff.dev_server.server import ComfyServer

pytestmark = pytest.mark.browser

ORDINARY = "mm_sd15_v2.safetensors"
LIGHTNING = "animatediff_lightning_4step.safetensors"
CHECKPOINT, PROMPT, ON_ORDINARY, ON_LIGHTNING, ONE_FRAME, CLIP, LONG_CLIP = 0, 1, 3, 5, 6, 7, 8
# What stands on a sampler, by its model, latent and settings.
WARNINGS = {
    "One frame has no motion.": (ON_ORDINARY, ONE_FRAME, {}),
    "cfg 7.5 is high for mode lightning": (ON_LIGHTNING, CLIP, {"steps": 4, "cfg": 7.5}),
    f"{LIGHTNING} was distilled for 4 steps, this run takes 2.": (ON_LIGHTNING, CLIP, {"steps": 2}),
    f"{ORDINARY} is AnimateDiff v2, not distilled for mode lightning.": (
        ON_ORDINARY,
        CLIP,
        {"mode": "lightning"},
    ),
    "not distilled for mode lcm. Set mode to auto.": (ON_LIGHTNING, CLIP, {"mode": "lcm"}),
    "Mode lcm needs a distilled image model": (ON_ORDINARY, CLIP, {"mode": "lcm"}),
    "This model has no motion module": (CHECKPOINT, CLIP, {}),
    "context windows of 16 frames, overlap 4.": (ON_ORDINARY, LONG_CLIP, {}),
}


def graph() -> list[list]:
    """Everything that the samplers share, in the order of the numbers above, then the samplers."""
    nodes: list[list] = [
        ["CheckpointLoaderSimple", {}],
        ["CLIPTextEncode", {"text": "a red circle"}, {"clip": [CHECKPOINT, 1]}],
        *(["FAD_LoadMotionModule", {"motion_module": ORDINARY}], applied(2)),
        *(["FAD_LoadMotionModule", {"motion_module": LIGHTNING}], applied(4)),
        *(latent(frames) for frames in (1, 2, 40)),
    ]
    for model, latent_image, settings in WARNINGS.values():
        links = {"model": model, "positive": PROMPT, "negative": PROMPT, "latent_image": latent_image}
        links = {name: [number, 0] for name, number in links.items()}
        nodes.append(["FAD_Sampler", {"steps": 1, "cfg": 1, **settings}, links])
        nodes.append(
            ["PreviewAny", {}, {"source": [len(nodes) - 1, 0]}]
        )  # the host runs what leads to an output
    return nodes


def applied(motion_module: int) -> list:
    return ["FAD_ApplyMotionModule", {}, {"model": [CHECKPOINT, 0], "motion_module": [motion_module, 0]}]


def latent(num_frames: int) -> list:
    size = {"video_size": "custom", "width": 64, "height": 64}
    return ["FAD_EmptyVideoLatent", {**size, "num_frames": num_frames}]


@pytest.fixture
def lightning_module(comfy_server: ComfyServer) -> Iterator[Path]:
    """An ordinary module under the name of a Lightning one, which is what tells them apart."""
    folder = comfy_server.base / "models" / "animatediff_models"
    path = shutil.copy(folder / ORDINARY, folder / LIGHTNING)
    yield path
    path.unlink()


@pytest.mark.slow
def test_each_warning_can_be_read_on_the_node_that_it_is_about(
    visit: Callable[..., dict], lightning_module: Path
) -> None:
    result = visit("show_warnings.js", json.dumps(graph()))
    assert result["complaints"] == [] and result["dialogs"] == []
    for kind, texts in result["seen"].items():
        for warning, text in zip(WARNINGS, texts, strict=True):
            assert warning in text, kind
