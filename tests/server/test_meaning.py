"""What the words, the knobs and the files mean: the tiny family through the pack's own workflow files.

Captions and scenes that training never showed, fixed seeds; each bar is below what tiny/scoring/score.json has of many more clips,
but for likeness to a video of what is asked for, which is measured here alone.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fast_animatediff.dev_server.demo import nodes
from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import Prompt
from fast_animatediff.tiny.domain.captions import plain_caption
from fast_animatediff.tiny.domain.measures import DIRECTIONS, camera_speed, falls, judge, psnr
from fast_animatediff.tiny.domain.scenes import (
    MOTIONS,
    Attributes,
    before_textures,
    draw_attributes,
    seeded,
)
from fast_animatediff.tiny.domain.subjects import find_subject, path_correlation
from fast_animatediff.tiny.scoring.score_card import (
    LONG,
    STRENGTHS,
    Request,
    held_out,
    in_another_colour,
    input_clip,
)
from fast_animatediff.tiny.scoring.workflow_maker import WorkflowMaker, read_clip
from fast_animatediff.tiny.shipped import CAMERA_MOVES

pytestmark = pytest.mark.server

SIZE = 64
STEPS = [
    pytest.param(True, id="turbo in 8 steps"),
    pytest.param(False, marks=pytest.mark.slow, id="25 steps"),
]


@pytest.fixture(scope="module")
def make(comfy: ComfyServer) -> WorkflowMaker:
    return WorkflowMaker(comfy.client, comfy.base, SIZE)


class InTenSteps(WorkflowMaker):
    """Enough to see what a knob does; the workflows take 25."""

    def run(self, prompt: Prompt) -> Tensor:
        for sampler in nodes(prompt, "FAD_Sampler"):
            sampler["steps"] = 10
        return super().run(prompt)


@pytest.fixture(scope="module")
def briefly(comfy: ComfyServer) -> InTenSteps:
    return InTenSteps(comfy.client, comfy.base, SIZE)


def request(asked: Attributes, seed: int = 1, turbo: bool = False) -> Request:
    return Request(plain_caption(asked, 0), asked, seed, turbo)


@pytest.mark.parametrize("turbo", STEPS)
def test_a_prompt_decides_colour_shape_and_direction(make: WorkflowMaker, turbo: bool) -> None:
    asked = [held_out_with(direction) for direction in DIRECTIONS]
    verdicts = [judge(make(request(one, turbo=turbo)), one) for one in asked]
    for right in ("colour", "shape", "direction"):
        assert sum(getattr(verdict, right) for verdict in verdicts) >= 3, right


def held_out_with(motion: str) -> Attributes:
    """A held-out scene in which the subject moves so, at normal speed."""
    asked = draw_attributes(seeded("meaning", "direction"), 100, held_out=True)
    chosen = (asked.motion == MOTIONS.index(motion)) & (asked.speed == 1)
    return asked.at(int(chosen.nonzero()[0]))


@pytest.fixture(scope="module")
def textured() -> Attributes:
    rng = seeded("meaning", "camera")
    return before_textures(rng, draw_attributes(rng, 1, held_out=True))


@pytest.fixture(scope="module")
def at_rest(briefly: InTenSteps, textured: Attributes) -> Tensor:
    """With a motion LoRA at strength 0."""
    return briefly(replace(request(textured), motion_lora="ZoomIn", lora_strength=0.0))


@pytest.mark.parametrize(
    "move",
    [
        "PanLeft",
        *(pytest.param(move, marks=pytest.mark.slow) for move in ("RollingClockwise", "ZoomIn", "TiltUp")),
    ],
)
def test_a_motion_lora_moves_the_camera_as_it_says_and_at_nought_and_minus_one_does_not(
    briefly: InTenSteps, textured: Attributes, at_rest: Tensor, move: str
) -> None:
    axis, sign = CAMERA_MOVES[move]
    clip, taken_away = (
        briefly(replace(request(textured), motion_lora=move, lora_strength=strength))
        for strength in (1.0, -1.0)
    )
    moves_along, rate = camera_speed(clip, axis)
    assert moves_along and rate * sign > 0.3, rate
    assert abs(camera_speed(at_rest, axis)[1]) < 0.3
    assert camera_speed(taken_away, axis)[1] * sign < 0.3


def test_without_motion_strength_the_frames_are_strangers(briefly: InTenSteps) -> None:
    (asked,) = held_out("meaning", 1)
    with_module, without = (
        judge(briefly(replace(request(asked), motion_strength=strength)), asked).jitter
        for strength in (1.0, 0.0)
    )
    assert without > 3 * with_module


@pytest.mark.parametrize("number", [4, 7])
def test_a_video_keeps_its_path_and_changes_its_colour(briefly: InTenSteps, number: int) -> None:
    """Two of those that do; how many keep it so well is in score.json."""
    scenes, video = input_clip(number, SIZE)
    asked = in_another_colour(scenes.attributes)
    caption = plain_caption(asked, 0, motion=False)
    clip = briefly(Request(caption, asked, 3000 + number, video=video, strength=0.7))
    assert path_correlation(find_subject(video), find_subject(clip)) >= 0.9
    assert judge(clip, asked).colour


@pytest.mark.slow
def test_with_the_edge_controlnet_a_video_keeps_its_path_in_windows_too(briefly: InTenSteps) -> None:
    scenes, video = input_clip(100, SIZE, LONG)
    asked = in_another_colour(scenes.attributes)
    caption = plain_caption(asked, 0, motion=False)
    clip = briefly(Request(caption, asked, 5000, video=video, edges=True))
    assert path_correlation(find_subject(video), find_subject(clip)) >= 0.9
    assert judge(clip, asked).colour


def test_more_strength_leaves_less_of_the_video(briefly: InTenSteps) -> None:
    """Asked for what the video shows: little strength keeps it, much makes another such scene."""
    scenes, video = input_clip(1, SIZE)
    asked = scenes.attributes
    caption = plain_caption(asked, 0, motion=False)
    clips = [briefly(Request(caption, asked, 1, video=video, strength=strength)) for strength in STRENGTHS]
    likeness = [psnr(clip, video) for clip in clips]
    assert falls(likeness) and likeness[0] > 22 and likeness[-1] < 17, likeness


def test_the_same_seed_gives_the_same_video_bit_for_bit(make: WorkflowMaker, comfy: ComfyServer) -> None:
    """Run twice, not taken from the cache: without the cache the second file has another name."""
    (asked,) = held_out("meaning", 1)

    def run(seed: int) -> tuple[str, Tensor]:
        prompt: Prompt = make.text_to_video(request(asked, seed, turbo=True))
        for sampler in nodes(prompt, "FAD_Sampler"):
            sampler.update(seed=seed, steps=3)  # with noise of the sampler's own between them
        finished = comfy.client.run(prompt)
        (path,) = (path for path in finished.files(comfy.base) if path.suffix == ".mp4")
        return path.name, read_clip(path)

    name, first = run(5)
    comfy.client.post("/free", {"unload_models": True, "free_memory": True})
    other_name, again = run(6)
    third_name, same = run(5)
    assert len({name, other_name, third_name}) == 3
    assert torch.equal(first, same) and not torch.equal(first, again)
