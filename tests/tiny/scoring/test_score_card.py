"""The score card: full marks for a perfect model, none where clips are wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fast_animatediff.tests.tiny.made_clips import FRAMES, SIZE, truth
from fast_animatediff.tiny.domain.render import render
from fast_animatediff.tiny.scoring.score import SCORE, weights
from fast_animatediff.tiny.scoring.score_card import (
    Request,
    input_clip,
    make_card,
    path_times,
    score_camera,
    score_motion_strength,
    score_text,
    score_video,
    show,
)
from fast_animatediff.tiny.shipped import CAMERA_MOVES

pytestmark = pytest.mark.slow


def perfect(request: Request) -> Tensor:
    """Draws what a request asks for, as the best of models would."""
    if request.video is not None:
        frames = len(request.video)
        scenes, video = input_clip(request.seed - (4900 if request.edges else 3000), SIZE, frames)
        scenes = replace(scenes, attributes=replace(request.asked, motion=scenes.attributes.motion))
        clip = render(scenes, path_times(frames)[None], SIZE)[0]
        return clip if request.strength == 0.7 else torch.lerp(video, clip, request.strength)
    if request.motion_strength == 0:
        return torch.stack([truth(request.asked, (request.seed, i))[i] for i in range(FRAMES)])
    if not request.motion_lora or not request.lora_strength:
        return truth(request.asked, request.seed)
    axis, sign = CAMERA_MOVES[request.motion_lora]
    return truth(request.asked, request.seed, axis, sign * request.lora_strength)


def opposite(request: Request) -> Tensor:
    """The same clips, played backwards."""
    return perfect(request).flip(0)


def test_a_perfect_model_gets_a_full_card() -> None:
    card = score_text(perfect, 16)
    assert [card[f"{name} right, %"] for name in ("colour", "shape", "direction", "movement")] == [100.0] * 4
    assert card["speed off by, %"] < 5 and card["background drift"] < 1e-3
    assert score_motion_strength(perfect, 4)["change from frame to frame, strength 0 against 1"] > 3


def test_a_model_that_moves_everything_backwards_gets_no_direction_right() -> None:
    card = score_text(opposite, 16)
    assert card["direction right, %"] == 0.0 and card["colour right, %"] == card["shape right, %"] == 100.0


def test_the_camera_section_tells_a_lora_that_works_from_one_that_does_not() -> None:
    right = score_camera(perfect, 2)
    for move in CAMERA_MOVES:
        assert right[f"{move}: right at 1, %"] == 100.0
        assert right[f"{move}: the same way at 0, %"] == right[f"{move}: the same way at -1, %"] == 0.0
        assert right[f"{move}: rate at 0.5"] == pytest.approx(0.5, abs=0.1)
        assert right[f"{move}: grows with strength"]
    wrong = score_camera(lambda request: perfect(replace(request, motion_lora=None)), 1)
    assert wrong["ZoomIn: right at 1, %"] == 0.0


def test_the_video_section_sees_path_colour_and_likeness() -> None:
    card = score_video(perfect, 3, SIZE)
    assert card["colour as asked at 0.7, %"] == 100.0 and card["path correlation at 0.7"] > 0.95
    assert card["path kept (0.9 and more) at 0.7, %"] == 100.0 and card["path off by at 0.7, sides"] < 0.02
    unchanged = score_video(lambda request: request.video, 3, SIZE)
    assert (
        unchanged["colour as asked at 0.7, %"] == 0.0 and unchanged["likeness falls with strength, %"] == 0.0
    )


def test_the_whole_card_has_every_section_and_can_be_shown() -> None:
    card = make_card(perfect, 4, SIZE)
    assert len(card) == 6 and all(
        np.isfinite(value) for value in card["turbo text to video, 8 steps"].values()
    )
    assert "PanLeft: right at 1, %" in show(card)


def test_the_card_that_ships_is_of_the_weights_that_ship() -> None:
    assert json.loads(SCORE.read_text(encoding="utf-8"))["weights"] == weights()
