"""Where the mask is black the picture stands still."""

from __future__ import annotations

import logging

import components
import pytest
import torch

import comfy.sample
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.motion_settings import MotionSettings
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

FRAMES = 6


@pytest.fixture(scope="module")
def base():
    return components.sd15_model()


@pytest.fixture(scope="module")
def module():
    return components.motion_module()


def left_half(value=1.0):
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = value
    return mask


def sampled(model, frames=FRAMES, sampler="euler", steps=3, latent=None):
    return comfy.sample.sample(
        model, components.noise(frames), steps, 2.0, sampler, "simple", components.conditioning(3),
        components.conditioning(5), torch.zeros(frames, 4, 8, 8) if latent is None else latent, seed=1,
        disable_pbar=True,
    )  # fmt: skip


def still(base, module, mask, **settings):
    return apply_motion_module(base, module, MotionSettings(mask=mask, still_background=True, **settings))


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "lcm", "dpmpp_2m"])
def test_where_the_mask_is_black_all_frames_are_the_same(base, module, sampler):
    found = sampled(still(base, module, left_half()), sampler=sampler)
    assert (found - found[:1])[..., 4:].abs().max() < 1e-5
    assert (found - found[:1])[1:, ..., :4].abs().mean((1, 2, 3)).min() > 0.01


def test_what_is_white_keeps_its_own_noise_and_prediction(base, module):
    """In the first step the two differ only by what the model sees beside it."""
    seen = []
    model = still(base, module, left_half())
    model.set_model_unet_function_wrapper(
        lambda apply, call: seen.append(call["input"]) or apply(call["input"], call["timestep"], **call["c"])
    )
    sampled(model, steps=1)
    own = sampled_input(base, module)
    clip = seen[0][:FRAMES]
    assert torch.equal(clip[..., :4], own[..., :4])
    assert torch.equal(clip[..., 4:], own[:1, ..., 4:].expand(FRAMES, -1, -1, -1))


def sampled_input(base, module):
    seen = []
    model = apply_motion_module(base, module)
    model.set_model_unet_function_wrapper(
        lambda apply, call: seen.append(call["input"]) or apply(call["input"], call["timestep"], **call["c"])
    )
    sampled(model, steps=1)
    return seen[0][:FRAMES]


def test_what_is_nearly_black_is_black(base, module):
    """Masks from videos, and feathered ones, are seldom 0: an average of pictures of their own would be mush."""
    masks = [torch.full((1, 64, 64), value) for value in (0.0, 4 / 255)]
    for mask in masks:
        mask[..., :32] = 1.0
    black, nearly = (sampled(still(base, module, mask)) for mask in masks)
    assert (nearly - nearly[:1])[..., 4:].abs().max() < 1e-5
    assert (nearly - black).norm() < 0.05 * black.norm()


def test_what_is_nearly_white_moves(base, module):
    found = sampled(still(base, module, left_half(0.6)))
    assert (found - found[:1])[1:, ..., :4].abs().mean((1, 2, 3)).min() > 0.01
    assert (found - found[:1])[..., 4:].abs().max() < 1e-5


def test_a_place_of_the_latent_that_is_black_in_part_stands_still(base, module):
    mask = left_half()
    mask[..., 28:32] = 0.0
    found = sampled(still(base, module, mask))
    assert (found - found[:1])[..., 3:].abs().max() < 1e-5


def test_a_mask_for_each_frame_holds_a_place_only_in_its_black_frames(base, module):
    masks = left_half().repeat(FRAMES, 1, 1)
    masks[:2, :, 32:] = 1.0
    found = sampled(still(base, module, masks))
    assert (found[2:] - found[2:3])[..., 4:].abs().max() < 1e-5
    assert (found[:2] - found[2:3])[..., 4:].abs().mean() > 0.01


def test_it_holds_in_context_windows(base, module):
    windows = make_windows(WindowSettings(8, 2))
    found = sampled(set_windows(still(base, module, left_half()), windows), frames=20)
    assert (found - found[:1])[..., 4:].abs().max() < 1e-5


def test_video_to_video_holds_the_first_frames_background(base, module):
    video = torch.linspace(-1, 1, FRAMES).view(-1, 1, 1, 1).expand(FRAMES, 4, 8, 8).contiguous()
    first = video[:1].expand_as(video).contiguous()
    model = still(base, module, left_half(0.0))
    assert torch.allclose(sampled(model, latent=video), sampled(model, latent=first), atol=1e-5)


def test_off_the_mask_alone_is_as_ever(base, module):
    mask = left_half()
    plain = sampled(apply_motion_module(base, module, MotionSettings(mask=mask)))
    assert (plain - plain[:1])[1:, ..., 4:].abs().mean((1, 2, 3)).min() > 0.01


def test_without_a_mask_it_changes_nothing_and_says_so(base, module, caplog):
    with caplog.at_level(logging.WARNING):
        found = sampled(still(base, module, None))
    assert "still_background has no effect without a mask" in caplog.text
    assert torch.equal(found, sampled(apply_motion_module(base, module)))
