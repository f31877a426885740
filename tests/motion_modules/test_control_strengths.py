"""ControlNet Strength: each frame gets its own number, and each pixel its own share."""

from __future__ import annotations

import components
import controls
import pytest
import torch
from test_control_windows import (
    SIDE_BY_SIDE,
    conditions,
    conditions_in_each_call,
    hints_of_windows,
    sampled,
    with_hints,
)

from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.control_strengths import with_control_strength
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

RAMP = [frame / 11 for frame in range(12)]
KINDS = [controls.controlnet, controls.control_lora, controls.t2i_adapter]


@pytest.fixture(scope="module")
def applied():
    return apply_motion_module(components.sd15_model(), components.motion_module())


def weighted(control, strength, mask=None):
    """The control behind ControlNet Strength, as the node makes it."""
    positive, negative = with_control_strength(conditions(control, control), strength, mask)
    assert positive[0][1]["control"] is negative[0][1]["control"]
    return positive[0][1]["control"]


def added(control, frames):
    """What a control adds to the UNet's features, part by part, for one clip; None where it does not act."""
    x, cond = torch.zeros(frames, 4, 8, 8), {"c_crossattn": torch.zeros(frames, 7, 24)}
    given = control.get_control(x, torch.ones(frames), cond, 1, {})
    return given and [x for part in given.values() for x in part if x is not None]


def numbers_added(control, frames):
    """The numbers of controls that add one to each frame."""
    (x,) = added(control, frames)
    return x[:, 0, 0, 0].tolist()


def prepared(control):
    control.pre_run(components.sd15_model().model, lambda percent: 999.0 * (1.0 - percent))
    return control


def on_both(control):
    return {"cond": control, "uncond": control}


@pytest.mark.parametrize("make", KINDS)
def test_one_number_is_the_strength_of_apply_controlnet(applied, make):
    control, hints = make(), controls.hints(12)
    model = set_windows(applied, make_windows(SIDE_BY_SIDE))
    found = sampled(model, 12, **on_both(weighted(with_hints(control, hints, 0.8), 0.5)), steps=1)
    expected = sampled(model, 12, **on_both(with_hints(control, hints, 0.4)), steps=1)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, sampled(model, 12, steps=1), atol=1e-2)


@pytest.mark.parametrize("make", [controls.controlnet, controls.t2i_adapter])
def test_each_frame_gets_its_own_number(make):
    control = with_hints(make(), controls.hints(12), 0.7)
    plain, ramp = added(prepared(control), 12), torch.tensor(RAMP).view(-1, 1, 1, 1)
    found = added(prepared(weighted(control, RAMP)), 12)
    assert len(found) == len(plain) > 0
    assert all(torch.allclose(x, y * ramp, atol=1e-6) for x, y in zip(found, plain, strict=True))
    assert all(map(torch.equal, added(prepared(control), 12), plain))  # the control itself is as it was


@pytest.mark.parametrize("closed_loop", [False, True])
@pytest.mark.parametrize("overlap", [0, 3])
def test_a_window_gets_the_numbers_of_its_own_frames(applied, overlap, closed_loop):
    strength = [float(frame % 3) for frame in range(40)]
    control = weighted(with_hints(controls.index_control(), controls.numbered(40)), strength)
    schedule = "looped_uniform" if closed_loop else "standard_uniform"
    settings = WindowSettings(16, overlap, schedule, closed_loop=closed_loop)
    found = hints_of_windows(applied, settings, 40, control, steps=3)
    assert {frame for window, _ in found for frame in window} == set(range(40))
    for window, given in found:
        assert given == [frame * (frame % 3) for frame in window]


def test_a_loop_of_one_window_keeps_the_numbers_with_their_frames_as_it_rolls(applied):
    strength = [float(frame % 3) for frame in range(12)]
    control = weighted(with_hints(controls.index_control(), controls.numbered(12)), strength)
    settings = WindowSettings(16, 4, "looped_uniform", closed_loop=True)
    found = hints_of_windows(applied, settings, 12, control, steps=3)
    assert len({window[0] for window, _ in found}) == 3
    for window, given in found:
        assert given == [frame * (frame % 3) for frame in window]


def test_the_numbers_act_alike_in_windows_and_in_clips_of_their_own(applied):
    control, hints = controls.controlnet(), controls.hints(12)
    found = sampled(
        set_windows(applied, make_windows(SIDE_BY_SIDE)),
        12,
        **on_both(weighted(with_hints(control, hints), RAMP)),
    )
    for first, last in ((0, 8), (8, 12)):
        part = weighted(with_hints(control, hints[first:last]), RAMP[first:last])
        expected = sampled(applied, last - first, **on_both(part), first=first)
        assert torch.allclose(found[first:last], expected, atol=2e-4)


def test_windows_in_the_motion_layers_see_the_numbers_of_the_whole_clip(applied):
    model = set_windows(applied, make_windows(WindowSettings(16, 4, motion_layers_only=True)))
    ramp = [frame / 39 for frame in range(40)]
    network, hints = controls.controlnet(), controls.hints(40)
    found = sampled(model, 40, weighted(with_hints(network, hints), ramp), steps=1)
    assert not torch.allclose(found, sampled(model, 40, with_hints(network, hints), steps=1), atol=1e-2)
    steady = sampled(model, 40, weighted(with_hints(network, hints), [1.0] * 40), steps=1)
    assert torch.allclose(steady, sampled(model, 40, with_hints(network, hints), steps=1), atol=1e-6)


def test_only_the_last_controlnet_of_a_chain_is_weighted():
    first = with_hints(controls.index_control(), controls.numbered(1) + 5.0)
    last = with_hints(controls.index_control(), controls.numbered(1) + 100.0, previous=first)
    found = numbers_added(prepared(weighted(last, [0.0, 0.5, 1.0])), 3)
    assert found == [5.0, 55.0, 105.0]
    both = with_hints(
        controls.index_control(), controls.numbered(1) + 100.0, previous=weighted(first, [1.0, 0.0, 2.0])
    )
    assert numbers_added(prepared(both), 3) == [105.0, 100.0, 110.0]


def test_two_strengths_behind_one_controlnet_are_multiplied():
    first = with_hints(controls.index_control(), controls.numbered(1) + 5.0)
    last = with_hints(controls.index_control(), controls.numbered(1) + 100.0, previous=first)
    found = numbers_added(prepared(weighted(weighted(last, [0.0, 0.5, 1.0]), 0.5)), 3)
    assert found == [5.0, 30.0, 55.0]


def test_a_window_without_any_strength_does_not_run_the_controlnet(applied):
    network = controls.index_control()
    strength = [0.0] * 8 + [1.0] * 4
    control = weighted(with_hints(network, controls.numbered(12)), strength)
    sampled(set_windows(applied, make_windows(SIDE_BY_SIDE)), 12, **on_both(control), steps=3)
    assert network.control_model.calls == [8] * 3  # cond and uncond of the four frames


def test_a_controlnet_outside_of_its_percents_adds_nothing():
    control = with_hints(controls.index_control(), controls.numbered(4), 1.0, (0.0, 0.5))
    late = prepared(weighted(control, 0.5))
    assert added(late, 4) is None


def test_the_mask_says_where_the_controlnet_acts():
    mask = torch.zeros(64, 64)
    mask[:, 32:] = 1.0
    control = with_hints(controls.controlnet(), controls.hints(4))
    plain, found = added(prepared(control), 4), added(prepared(weighted(control, 0.5, mask)), 4)
    for x, y in zip(found, plain, strict=True):
        half = max(x.shape[-1] // 2, 1)
        share = 0.5 if x.shape[-1] > 1 else 0.25  # one pixel that covers both halves
        assert x.shape[-1] == 1 or not x[..., :half].any()
        assert torch.allclose(x[..., -half:], y[..., -half:] * share)


def test_a_mask_for_each_frame_is_windowed(applied):
    masks = torch.zeros(40, 8, 8)
    masks[::2] = 1.0
    control = weighted(with_hints(controls.index_control(), controls.numbered(40)), 1.0, masks)
    for window, given in hints_of_windows(applied, WindowSettings(16, 4), 40, control, steps=1):
        assert given == [0 if frame % 2 else frame for frame in window]


def test_numbers_for_another_length_are_refused_with_both_lengths(applied):
    control = weighted(with_hints(controls.index_control(), controls.numbered(12)), RAMP)
    with pytest.raises(ValueError, match=r"strength has 12 numbers, the clip has 20 frames. Set num_frames"):
        sampled(applied, 20, **on_both(control), steps=1)


def test_a_prompt_without_controlnet_is_refused():
    with pytest.raises(
        ValueError, match=r"Neither positive nor negative has a ControlNet. Connect both outputs"
    ):
        with_control_strength(conditions(), 1.0)


def test_a_number_beyond_what_apply_controlnet_takes_is_refused():
    control = with_hints(controls.index_control(), controls.numbered(12))
    with pytest.raises(ValueError, match="strength is 11 at frame 1; expected 0 to 10"):
        with_control_strength(conditions(control), [1.0, 11.0])


@pytest.mark.parametrize("node", ["automatic", "core's"])
def test_cond_and_uncond_stay_one_call_of_the_unet(applied, node):
    hints = with_hints(controls.index_control(), controls.numbered(40))
    control = weighted(hints, [frame / 39 for frame in range(40)])
    calls = conditions_in_each_call(applied, node, control)
    assert calls and all(len(call) == 2 for call in calls)


def test_the_host_sees_the_controlnets_models_and_memory():
    control = with_hints(controls.controlnet(), controls.hints(4))
    link = weighted(control, RAMP)
    assert link.get_models() == control.get_models()
    assert link.inference_memory_requirements(torch.float32) == control.inference_memory_requirements(
        torch.float32
    )
    other = link.deepclone_multigpu("cuda:1", autoregister=True)
    assert link.get_instance_for_device("cuda:1") is other and other.frame_strength is link.frame_strength
