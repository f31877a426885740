"""Proves the judges: clips drawn from the truth must pass, wrong ones must fail, reversed ones must go the other way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fast_animatediff.tests.tiny.made_clips import FRAMES, SIZE, truth, worsened
from fast_animatediff.tiny.domain.measures import (
    background_drift,
    camera_speed,
    falls,
    jitter,
    judge,
    psnr,
    share,
)
from fast_animatediff.tiny.domain.motions import CAMERA_RATES
from fast_animatediff.tiny.domain.registration import camera_move, camera_rates
from fast_animatediff.tiny.domain.render import render
from fast_animatediff.tiny.domain.scenes import (
    COLOURS,
    MOTIONS,
    SHAPES,
    Attributes,
    before_textures,
    draw_attributes,
    seeded,
)
from fast_animatediff.tiny.domain.subjects import find_subject, movement_of, path_correlation
from fast_animatediff.tiny.scoring.score_card import (
    in_another_colour,
    input_clip,
)
from fast_animatediff.tiny.shipped import CAMERA_MOVES

pytestmark = pytest.mark.slow
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


@pytest.fixture(scope="module")
def drawn() -> tuple[Attributes, Tensor]:
    asked = draw_attributes(seeded("judge"), 64)
    return asked, truth(asked, "drawn")


@pytest.fixture(scope="module")
def textured() -> Attributes:
    rng = seeded("textured")
    return before_textures(rng, draw_attributes(rng, 8))


@pytest.mark.parametrize(("change", "least"), [(lambda clip: clip, 100.0), (worsened, 97.0)])
def test_true_clips_score_full_marks(
    drawn: tuple[Attributes, Tensor], change: Callable[[Tensor], Tensor], least: float
) -> None:
    asked, clips = drawn
    verdicts = [judge(change(clip), asked.at(i)) for i, clip in enumerate(clips)]
    for name in ("colour", "shape", "direction", "movement"):
        assert share([getattr(v, name) for v in verdicts]) >= least, name
    speeds = [v.speed_error for v in verdicts if v.speed_error is not None]
    assert len(speeds) > 25 and np.mean(speeds) < 0.05


def test_a_clip_of_another_scene_is_marked_wrong(drawn: tuple[Attributes, Tensor]) -> None:
    asked, clips = drawn
    for i, clip in enumerate(clips[:24]):
        other = replace(
            asked.at(i),
            shape=(asked.shape[i : i + 1] + 1) % len(SHAPES),
            colour=(asked.colour[i : i + 1] + 1) % len(COLOURS),
            motion=(asked.motion[i : i + 1] + 1) % len(MOTIONS),
        )
        verdict = judge(clip, other)
        assert not (verdict.shape or verdict.colour or verdict.movement)


def test_a_reversed_clip_goes_the_other_way(drawn: tuple[Attributes, Tensor]) -> None:
    asked, clips = drawn
    reversed_ones = 0
    for i, clip in enumerate(clips):
        motion = MOTIONS[asked.motion[i]]
        if motion in OPPOSITE:
            assert movement_of(find_subject(clip.flip(0))).name == OPPOSITE[motion]
            reversed_ones += 1
        elif motion == "grow":
            assert movement_of(find_subject(clip.flip(0))).growth < -0.01
    assert reversed_ones > 25


def test_random_prompts_are_obeyed_by_chance_only(drawn: tuple[Attributes, Tensor]) -> None:
    asked, clips = drawn
    mixed = torch.roll(torch.arange(len(clips)), 1)
    verdicts = [judge(clips[j], asked.at(i)) for i, j in enumerate(mixed)]
    assert share([v.colour for v in verdicts]) < 30 and share([v.shape for v in verdicts]) < 35
    assert share([v.direction for v in verdicts]) < 40


def test_where_there_is_no_subject_nothing_is_right() -> None:
    noise = torch.rand(FRAMES, 3, SIZE, SIZE, generator=seeded("noise")) * 0.3 + 0.2
    verdict = judge(noise, draw_attributes(seeded("nothing"), 1))
    assert not (verdict.colour or verdict.shape or verdict.movement)


def test_a_subject_that_flickers_in_and_out_has_no_movement(drawn: tuple[Attributes, Tensor]) -> None:
    _, clips = drawn
    flickering = clips[0].clone()
    flickering[np.arange(FRAMES) % 5 != 0] = 0.36
    assert movement_of(find_subject(flickering)).name == "nothing"


@pytest.mark.parametrize("move", CAMERA_MOVES)
def test_each_camera_move_is_told_and_measured_and_reversed_clips_go_back(
    move: str, textured: Attributes
) -> None:
    axis, sign = CAMERA_MOVES[move]
    for i in range(len(textured)):
        clip = truth(textured.at(i), i, axis, sign)
        moves, rate = camera_speed(clip, axis)
        assert moves and rate * sign == pytest.approx(1.0, abs=0.25)
        backwards, rate = camera_speed(clip.flip(0), axis)
        assert backwards and rate * sign == pytest.approx(-1.0, abs=0.2)


def test_half_the_rate_is_measured_as_half(textured: Attributes) -> None:
    for axis in CAMERA_RATES:
        assert camera_speed(truth(textured.at(0), 0, axis, 0.5), axis)[1] == pytest.approx(0.5, abs=0.1)


def test_a_camera_at_rest_is_at_rest_whatever_the_subject_does(textured: Attributes) -> None:
    for i in range(len(textured)):
        clip = truth(textured.at(i), i)
        assert camera_move(camera_rates(clip, torch.from_numpy(find_subject(clip).mask))) is None


def test_blur_and_noise_do_not_change_the_cameras_direction(textured: Attributes) -> None:
    for axis in CAMERA_RATES:
        for i in range(4):
            moves, rate = camera_speed(worsened(truth(textured.at(i), i, axis), i), axis)
            assert moves and rate > 0.6, axis


def test_a_still_picture_does_not_change_and_unrelated_frames_do(drawn: tuple[Attributes, Tensor]) -> None:
    asked, clips = drawn
    one_picture = clips[0][:1].expand(FRAMES, -1, -1, -1)
    assert jitter(one_picture) == 0
    unrelated = clips[:FRAMES, 0]
    assert jitter(unrelated) > 3 * max(jitter(clip) for clip in clips)


def test_the_background_of_a_true_clip_is_still_and_that_of_a_moving_camera_is_not(
    textured: Attributes,
) -> None:
    for i in range(len(textured)):
        still, moving = (truth(textured.at(i), i, axis) for axis in (None, "pan"))
        assert background_drift(still, find_subject(still)) < 1e-3
        assert background_drift(moving, find_subject(moving)) > 0.005


def test_a_path_correlates_with_itself_in_another_look_and_not_with_its_reverse() -> None:
    frames = torch.arange(float(FRAMES))[None]
    for number in range(6):
        scenes, video = input_clip(number, SIZE)
        asked = scenes.attributes
        look = replace(in_another_colour(asked), shape=(asked.shape + 1) % len(SHAPES))
        one = find_subject(video)
        other = find_subject(render(replace(scenes, attributes=look), frames, SIZE)[0])
        assert one.colour != other.colour and one.shape != other.shape
        assert path_correlation(one, other) > 0.98
        if MOTIONS[asked.motion[0]] in OPPOSITE:
            assert path_correlation(one, find_subject(video.flip(0))) < -0.9
        assert path_correlation(one, find_subject(video[:1].expand_as(video))) == 0.0


def test_likeness_falls_as_noise_is_added(drawn: tuple[Attributes, Tensor]) -> None:
    _, clips = drawn
    noise = torch.randn(clips[0].shape, generator=seeded("likeness"))
    values = [psnr(clips[0] + amount * noise, clips[0]) for amount in (0.0, 0.1, 0.3, 0.5)]
    assert values[0] == 100 and falls(values) and not falls([3.0, 1.0, 2.0])
