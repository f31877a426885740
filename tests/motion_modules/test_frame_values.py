"""Strength and scale of the motion for each frame, and where in the picture it acts."""

from __future__ import annotations

import components
import pytest
import torch

import comfy.sample
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.adapter import KEY, MotionState, apply_motion_module
from fast_animatediff.motion_modules.frame_values import FrameValues, blend, parse_numbers, values_of
from fast_animatediff.motion_modules.layer_windows import LayerWindow, in_windows, make_windows
from fast_animatediff.motion_modules.motion_settings import MotionSettings
from fast_animatediff.motion_modules.temporal import attend
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

FRAMES = 6
RAMP = tuple(frame / 39 for frame in range(40))


@pytest.fixture(scope="module")
def base():
    return components.sd15_model()


@pytest.fixture(scope="module")
def module():
    return components.motion_module()


def values(text, num_frames, interpolation="linear"):
    return values_of(parse_numbers(text), num_frames, interpolation)


def sampled(model, frames, noise=None, cfg=1.0, steps=1):
    return comfy.sample.sample(
        model, components.noise(frames) if noise is None else noise, steps, cfg, "euler", "simple",
        components.conditioning(3), components.conditioning(5), torch.zeros(frames, 4, 8, 8), seed=1,
        disable_pbar=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "0: 0.2, 4: 1.0",
        "0: 0.2\n4: 1",
        '"0": 0.2, "4": "1.0"',
        "{0: .2, 4: 1e0}",
        "0:(0.2), 4:(1.0)",
        "0：0.2，4：1",
    ],
)
def test_a_schedule_is_a_number_for_each_frame(text):
    assert values(text, 6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert values(text, 6, "hold") == [0.2] * 4 + [1.0, 1.0]
    assert values(text, 5, "ease")[1] < 0.4 and values(text, 5, "ease")[3] > 0.8


def test_a_constant_schedule_is_the_number_itself():
    assert values("0: 0.3, 7: 0.3", 16) == [0.3] * 16 and values("9: 0.7", 12, "ease") == [0.7] * 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The schedule is empty"),
        ("0: fast", "Line 1: fast is not a number; write a key such as 24: 0.5"),
        ("0: 0.5,\n3: nan", "Line 2: nan is not a number"),
        ("0:", "Line 1: nothing is not a number"),
        ("0: 0.5\n-2: 1", "Line 2: frame -2 is negative"),
        ("0: 0.5, 0: 1", "frame 0 was given before"),
        ("0.5", "Line 1: expected a key such as 24: 0.5; found 0.5"),
        ("0: {1|2}", "is not a number"),
    ],
)
def test_bad_schedules_are_named_by_their_line(text, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        values(text, 16)


def test_ten_thousand_keys_are_read():
    assert values(", ".join(f"{frame}: {frame / 1e4}" for frame in range(10_000)), 10_000)[9_999] == 0.9999


@pytest.mark.parametrize("family", [families.V1, families.V2])
def test_the_same_number_in_each_frame_is_that_number_to_the_bit(base, family):
    module, x = components.motion_module(family), components.noise(FRAMES)
    single = components.predict(apply_motion_module(base, module, MotionSettings(0.3, 1.2)), x)
    every = MotionSettings([0.3] * FRAMES, [1.2] * FRAMES, mask=torch.ones(1, 64, 64))
    assert torch.equal(components.predict(apply_motion_module(base, module, every), x), single)


def test_a_mask_of_one_value_is_a_strength(base, module):
    x = components.noise(FRAMES)
    found = components.predict(
        apply_motion_module(base, module, MotionSettings(0.8, mask=torch.full((1, 64, 64), 0.5))), x
    )
    expected = components.predict(apply_motion_module(base, module, MotionSettings(0.4)), x)
    assert torch.allclose(found, expected, atol=1e-5)


class AddsOne:
    """A temporal transformer that adds 1, so that what is added is the strength."""

    def __call__(self, x, frames, strength, motion_scale, elements, run):
        return x + strength

    def motion(self, x, frames, motion_scale, elements, run):
        return torch.ones_like(x).unflatten(0, (-1, frames))


def window(frames, weights):
    is_run = list(frames) == list(range(frames[0], frames[-1] + 1))
    return LayerWindow(
        frames, torch.tensor(weights).view(-1, 1, 1, 1), None if is_run else torch.tensor(frames)
    )


@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize(
    "windows",
    [
        (),
        (window((0, 1, 2), [1.0, 1.0, 0.5]), window((2, 3), [0.5, 1.0])),
        (window((0, 2), [1.0, 1.0]), window((1, 3), [1.0, 1.0])),
    ],
)
def test_each_frame_gets_its_strength(clips, windows):
    x, strength = torch.zeros(clips * 4, 2, 3, 3), torch.tensor([0.0, 0.25, 0.5, 1.0]).view(4, 1, 1, 1)
    found = in_windows(AddsOne(), x, 4, windows, strength, 1.0)
    assert torch.equal(found.view(clips, 4, 18)[:, :, 0], strength.view(1, 4).expand(clips, 4))


def test_each_frame_looks_with_its_own_scale():
    q, k, v = (torch.randn(5, 4, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
    scales = torch.tensor([0.0, 0.5, 1.0, 2.0])
    found = attend(q, k, v, scales.view(4, 1, 1, 1))
    for frame, scale in enumerate(scales.tolist()):
        assert torch.allclose(found[:, frame], attend(q, k, v, scale)[:, frame], atol=1e-5)


@pytest.mark.parametrize("layers", [False, True])
def test_windows_get_the_numbers_and_masks_of_their_own_frames(base, module, layers):
    masks = torch.zeros(40, 16, 16)
    for frame, mask in enumerate(masks):
        mask[:, : frame % 16 + 1] = 1.0
    seen: list[tuple[list[int], MotionState]] = []

    def remember(executor, x, t, context, y, control, options, **kwargs):
        window = options.get("context_window")
        seen.append((window.index_list if window else list(range(40)), kwargs[KEY]))
        return executor(x, t, context, y, control, options, **kwargs)

    settings = MotionSettings(RAMP, [1.0 + value for value in RAMP], mask=masks)
    model = apply_motion_module(base, module, settings)
    if layers:
        model = set_windows(model, make_windows(WindowSettings(16, 4, motion_layers_only=True)))
    model.wrappers["diffusion_model"] = {"test": [remember], **model.wrappers["diffusion_model"]}
    assert torch.isfinite(sampled(model, 40, cfg=4.0)).all()
    assert len(seen) == (1 if layers else 3)
    for frames, state in seen:
        ramp = torch.tensor([RAMP[frame] for frame in frames])
        assert torch.allclose(state.motion_scale.flatten(), 1.0 + ramp)
        assert state.strength.shape == (len(frames), 1, 8, 8)
        shares = torch.tensor([(frame % 16 + 1) / 16 for frame in frames])
        assert torch.allclose(state.strength.mean(dim=(1, 2, 3)), ramp * shares)


def test_where_the_mask_is_black_features_stay_to_the_bit():
    x, y = (torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    mask = torch.zeros(4, 1, 12, 12)
    mask[..., :6] = 1.0
    found = blend(x, y, mask)
    assert torch.equal(found[..., 3:], x[..., 3:]) and torch.equal(found[..., :3], y[..., :3])


def test_another_number_of_values_than_frames_says_both_numbers(base, module):
    model = apply_motion_module(base, module, MotionSettings(RAMP[:16]))
    with pytest.raises(
        ValueError, match="strength has 16 numbers, the clip has 8 frames.*num_frames of Value"
    ):
        sampled(model, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": [0.5, 1.4]}, "strength is 1.4 at frame 1; expected 0 to 1"),
        ({"motion_scale": [-1.0]}, "motion_scale is -1 at frame 0; expected 0 to 2"),
        ({"strength": []}, "strength has no numbers"),
        ({"strength": [float("nan")]}, "strength is nan at frame 0"),
    ],
)
def test_numbers_out_of_range_are_named_by_their_frame(base, module, settings, message):
    with pytest.raises(ValueError, match=message):
        apply_motion_module(base, module, MotionSettings(**settings))


def test_numbers_are_told_in_one_word():
    assert str(FrameValues.make("strength", [0.2, 1.0], 1.0)) == "0.2 to 1"
    assert str(FrameValues.make("strength", 1, 1.0, torch.zeros(4, 4))) == "1 by mask"


def test_masks_beyond_0_and_1_are_cut():
    values = FrameValues.make("strength", 0.5, 1.0, torch.tensor([[[-1.0, 0.0], [1.0, 3.0]]]))
    assert values.at(range(1), 1, torch.zeros(1, 4, 2, 2)).flatten().tolist() == [0.0, 0.0, 0.5, 0.5]


def test_masks_may_have_a_channel_of_their_own(base, module):
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1.0
    x = components.noise(FRAMES)
    found = components.predict(apply_motion_module(base, module, MotionSettings(mask=mask)), x)
    expected = components.predict(apply_motion_module(base, module, MotionSettings(mask=mask[:, 0])), x)
    assert torch.equal(found, expected)


def test_a_mask_is_refused_where_only_a_part_of_the_picture_is_sampled(base, module):
    applied = apply_motion_module(base, module, MotionSettings(mask=torch.eye(64)[None]))
    [(context, _)] = components.conditioning()
    with pytest.raises(ValueError, match="whole picture, 64x64, but only 32x64 of it"):
        comfy.sample.sample(
            applied, components.noise(4), 1, 1.0, "euler", "simple", [[context, {"area": (8, 4, 0, 4)}]],
            components.conditioning(5), torch.zeros(4, 4, 8, 8), seed=1, disable_pbar=True,
        )  # fmt: skip


def test_numbers_are_not_given_to_frames_that_another_packs_indices_do_not_name(base, module):
    """Left behind by a pack that counts otherwise: seven indices for six frames."""
    applied = apply_motion_module(base, module, MotionSettings(RAMP[:FRAMES]))
    x, expected = components.noise(FRAMES), None
    for indices in (None, list(range(1, FRAMES + 2))):
        model = applied.clone()
        model.model_options["transformer_options"]["ad_params"] = {
            "full_length": 40, "context_length": 7, "sub_idxs": indices
        }  # fmt: skip
        found = components.predict(model, x)
        expected = found if expected is None else expected
        assert torch.equal(found, expected)
