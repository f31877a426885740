"""A clip that fits into one window and loops: it begins with another frame at each step."""

from __future__ import annotations

import components
import controls
import pytest
import torch
from test_control_windows import conditions, hints_of_windows, with_hints

import comfy.sample
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

FRAMES = 8
LOOP = WindowSettings(16, 4, closed_loop=True)


@pytest.fixture(scope="module")
def applied():
    return apply_motion_module(components.sd15_model(), components.motion_module())


def sampled(model, steps, frames=FRAMES, positive=None):
    return comfy.sample.sample(
        model, components.noise(frames), steps, 1.0, "euler", "simple", positive or conditions()[0],
        conditions()[1], torch.zeros(frames, 4, 8, 8), seed=1, disable_pbar=True,
    )  # fmt: skip


@pytest.mark.parametrize("layers", [False, True])
def test_it_begins_with_another_frame_at_each_step(applied, layers):
    model, seen = applied.clone(), []
    model.set_model_input_block_patch(lambda h, options: seen.append(options["ad_params"]["sub_idxs"]) or h)
    model = set_windows(
        model, make_windows(WindowSettings(16, 4, closed_loop=True, motion_layers_only=layers))
    )
    looped = sampled(model, 4)
    assert [window[0] for window in seen[:: len(seen) // 4]] == [0, 4, 2, 6]
    assert all(window == [(window[0] + i) % FRAMES for i in range(FRAMES)] for window in seen)
    assert not torch.allclose(looped, sampled(applied, 4), atol=1e-3)


def test_its_first_step_is_that_of_the_plain_clip(applied):
    found = sampled(set_windows(applied, make_windows(LOOP)), 1)
    assert torch.allclose(found, sampled(applied, 1), atol=1e-5)


def test_its_prompts_and_hints_stay_with_their_frames(applied):
    control = with_hints(controls.index_control(), controls.numbered(FRAMES))
    for frames, hints in hints_of_windows(applied, LOOP, FRAMES, control, steps=4):
        assert frames == hints
    prompts = torch.randn(FRAMES, 7, components.CONTEXT_CHANNELS, generator=torch.Generator().manual_seed(9))
    model, seen = set_windows(applied, make_windows(LOOP)), []
    model.set_model_attn2_patch(
        lambda n, k, v, options: seen.append((options["ad_params"]["sub_idxs"], k)) or (n, k, v)
    )
    sampled(model, 4, positive=[[prompts, {}]])
    assert seen and all(torch.allclose(context, prompts[frames]) for frames, context in seen)


def test_without_the_option_nothing_changes(applied):
    assert torch.equal(
        sampled(set_windows(applied, make_windows(WindowSettings(16, 4))), 2), sampled(applied, 2)
    )


def test_freenoise_and_loops_go_together_for_short_and_long_clips(applied):
    for frames in (FRAMES, 24):
        settings = WindowSettings(16, 4, "looped_uniform", closed_loop=True, freenoise=True)
        found = sampled(set_windows(applied, make_windows(settings)), 2, frames)
        assert found.shape[0] == frames and torch.isfinite(found).all()
