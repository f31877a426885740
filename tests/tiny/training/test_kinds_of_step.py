"""Which kinds of step the stages take, how often, and what each asks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fast_animatediff.tiny.domain.motions import CAMERA_RATES
from fast_animatediff.tiny.domain.scenes import LENGTHS, seeded
from fast_animatediff.tiny.training.cameras import (
    CameraStep,
    RestStep,
    kind_of_step,
)
from fast_animatediff.tiny.training.edits import TOO_LATE, EditStep, noise_to_take_away
from fast_animatediff.tiny.training.edits import kind_of_step as kind_of_edit_step


@pytest.mark.parametrize(
    "of_step, at_rest, with_words", [(kind_of_step, 1 / 2, 1 / 4), (kind_of_edit_step, 3 / 8, 3 / 8)]
)
def test_every_camera_goes_both_ways_as_often_and_so_many_steps_are_at_rest(
    of_step: Callable[[int], object], at_rest: float, with_words: float
) -> None:
    steps = 960
    kinds = [of_step(step) for step in range(steps)]
    for axis in CAMERA_RATES:
        forwards, backwards = (kinds.count(CameraStep(axis, sign)) for sign in (1.0, -1.0))
        assert forwards == backwards > 0.03 * steps
    rests = [kind for kind in kinds if isinstance(kind, RestStep)]
    assert len(rests) == at_rest * steps and sum(kind.words for kind in rests) == with_words * steps


def test_three_eighths_of_the_steps_of_edits_are_edits_of_clips_of_every_length() -> None:
    edits = [kind for kind in map(kind_of_edit_step, range(80)) if isinstance(kind, EditStep)]
    assert len(edits) == 30 and {kind.frames for kind in edits} == set(LENGTHS)


def test_an_edit_step_wants_what_is_shown_at_little_noise_and_what_is_asked_for_at_much() -> None:
    rng = seeded("wanted")
    asked, shown = (torch.randn(2, 3, 4, 8, 8, generator=rng) for _ in range(2))
    noise, sigma = torch.randn(shown.shape, generator=rng), torch.tensor([0.5, 5.0])
    wanted = noise_to_take_away(shown, asked, noise, torch.tensor([TOO_LATE - 1, TOO_LATE]), sigma)
    left = shown + (sigma.view(-1, 1, 1, 1, 1)) * (noise - wanted)
    assert torch.allclose(left[0], shown[0], atol=1e-5) and torch.allclose(left[1], asked[1], atol=1e-5)
