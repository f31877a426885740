"""ControlNet in context windows: each window gets the hints of its own frames."""

from __future__ import annotations

import itertools
import logging
import random

import components
import controls
import pytest
import torch

import comfy.controlnet
import comfy.sample
import comfy.samplers
from comfy.context_windows import ContextFuseMethods, ContextSchedules
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.control_windows import control_of_frames
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
from fast_animatediff.motion_modules.sampling import make_sigmas, sample
from fast_animatediff.motion_modules.windows import WindowHandler, WindowSettings, set_windows

SCHEDULES = [
    ContextSchedules.STATIC_STANDARD,
    ContextSchedules.UNIFORM_STANDARD,
    ContextSchedules.UNIFORM_LOOPED,
    ContextSchedules.BATCHED,
]
SIDE_BY_SIDE = WindowSettings(8, 0, ContextSchedules.BATCHED, ContextFuseMethods.FLAT)


@pytest.fixture(scope="module")
def applied():
    return apply_motion_module(components.sd15_model(), components.motion_module())


def conditions(cond=None, uncond=None):
    """Prompts with a control on either, both or none."""
    pairs = ((components.conditioning(3), cond), (components.conditioning(5), uncond))
    return [[[prompt[0][0], {"control": control} if control else {}]] for prompt, control in pairs]


def sampled(model, frames, cond=None, uncond=None, steps=2, cfg=4.0, first=0):
    """Frames `first` and following of the clip that the noise makes."""
    noise = components.noise(first + frames)[first:]
    return comfy.sample.sample(
        model, noise, steps, cfg, "euler", "simple", *conditions(cond, uncond),
        torch.zeros(frames, 4, 8, 8), seed=1, disable_pbar=True,
    )  # fmt: skip


def with_hints(control, hints, strength=1.0, percents=(0.0, 1.0), previous=None):
    return control.copy().set_cond_hint(hints, strength, percents).set_previous_controlnet(previous)


def hints_of_windows(model, settings, frames, control, steps):
    """(frames of a window, what its control gives to each of them) over some steps, without calling the UNet."""
    handler = WindowHandler.for_run(make_windows(settings))
    sigmas = torch.linspace(9.0, 1.0, steps)
    options = {"transformer_options": {"sample_sigmas": sigmas}}
    found = []

    def calculate(_, conds, x, timestep, model_options):
        ((cond,),) = conds
        given = cond["control"].get_control(
            x, timestep, {"c_crossattn": torch.zeros(1, 7, 24)}, 1, model_options["transformer_options"]
        )
        window = model_options["transformer_options"]["context_window"].index_list
        found.append((list(window), given["middle"][0][:, 0, 0, 0].int().tolist()))
        return [x]

    control.pre_run(model.model, lambda percent: 999.0 * (1.0 - percent))
    for sigma in sigmas:
        x = torch.zeros(frames, 4, 8, 8)
        handler.execute(calculate, model.model, [[{"control": control}]], x, sigma.expand(frames), options)
    return found


GRID = list(itertools.product(SCHEDULES, ContextFuseMethods.LIST_STATIC, [1, 2, 4], [0, 3], [False, True]))
SOME = random.Random(1).sample(GRID, 32)


@pytest.mark.parametrize("count", [40, 1, 12, 55])
def test_row_i_of_the_hints_reaches_frame_i_whatever_the_windows(applied, count):
    control = with_hints(controls.index_control(), controls.numbered(count))
    for schedule, fuse, stride, overlap, loop in SOME:
        settings = WindowSettings(16, overlap, schedule, fuse, stride, loop)
        found = hints_of_windows(applied, settings, 40, control, steps=2)
        assert {frame for window, _ in found for frame in window} == set(range(40))
        for window, given in found:
            assert given == [frame % count for frame in window], settings


def test_each_hint_is_resized_once_for_windows_that_stay(applied, monkeypatch):
    """Not at each step; and where windows move, as often as they do."""
    resized = []
    resize = comfy.utils.common_upscale
    monkeypatch.setattr(
        comfy.utils, "common_upscale", lambda hint, *a: resized.append(len(hint)) or resize(hint, *a)
    )
    control = with_hints(controls.index_control(), controls.numbered(40))
    hints_of_windows(applied, WindowSettings(16, 4), 40, control, steps=5)
    assert resized == [16, 16, 16]


def test_hints_kept_from_step_to_step_do_not_grow_with_the_clip(monkeypatch):
    from fast_animatediff.motion_modules import control_windows

    monkeypatch.setattr(control_windows, "KEPT_BYTES", 40 * 3 * controls.SIZE**2 * 4)
    kept = control_windows.WindowedControls()
    both = [with_hints(controls.index_control(), controls.numbered(400)) for _ in range(2)]
    for start in [*range(0, 400, 16)] * 2:
        frames = range(start, start + 16)
        found = [kept.at(control, frames, 400) for control in both]
        assert [kept.at(control, frames, 400) for control in both] == found
        assert len(kept.kept) <= 6 and (id(both[0]), tuple(range(16))) in kept.kept


@pytest.mark.parametrize("make", [controls.controlnet, controls.control_lora, controls.t2i_adapter])
@pytest.mark.parametrize("where", ["cond", "uncond", "both"])
def test_windows_side_by_side_are_clips_with_their_own_hints(applied, make, where):
    control, every, model = make(), controls.hints(12), set_windows(applied, make_windows(SIDE_BY_SIDE))

    def on(hints):
        found = with_hints(control, hints)
        return {"cond": found} if where == "cond" else {"uncond": found} if where == "uncond" else {
            "cond": found, "uncond": found,
        }  # fmt: skip

    found = sampled(model, 12, **on(every), steps=1)
    for first, frames in ((0, 8), (8, 4)):
        expected = sampled(applied, frames, **on(every[first : first + frames]), first=first, steps=1)
        assert torch.allclose(found[first : first + frames], expected, atol=2e-4)
    assert not torch.allclose(found, sampled(model, 12, steps=1), atol=1e-2)


def test_chains_strengths_and_percents_are_windowed_as_a_whole(applied):
    every, others = controls.hints(12), controls.hints(12, seed=12)
    model, adapter, network = (
        set_windows(applied, make_windows(SIDE_BY_SIDE)), controls.t2i_adapter(), controls.controlnet(),
    )  # fmt: skip

    def chain(rows):
        first = with_hints(adapter, others[rows], 0.4, (0.0, 0.5))
        return with_hints(network, every[rows], 0.7, (0.2, 1.0), previous=first)

    found = sampled(model, 12, chain(slice(0, 12)), steps=4)
    for first, last in ((0, 8), (8, 12)):
        expected = sampled(applied, last - first, chain(slice(first, last)), steps=4, first=first)
        assert torch.allclose(found[first:last], expected, atol=2e-4)


@pytest.mark.parametrize("make", [controls.controlnet, controls.t2i_adapter])
def test_a_clip_that_fits_is_without_windows_to_the_bit(applied, make):
    control = with_hints(make(), controls.hints(12))
    expected = sampled(applied, 12, control, control, steps=1)
    for settings in (WindowSettings(16, 4), WindowSettings(16, 4, motion_layers_only=True)):
        assert torch.equal(
            sampled(set_windows(applied, make_windows(settings)), 12, control, control, steps=1), expected
        )


def test_windows_in_the_motion_layers_see_the_hints_of_the_whole_clip(applied):
    model = set_windows(applied, make_windows(WindowSettings(16, 4, motion_layers_only=True)))
    seen = []
    control = with_hints(controls.index_control(), controls.numbered(40))
    control.control_model.register_forward_hook(
        lambda _, __, out: seen.append(out["middle"][0][:, 0, 0, 0].int().tolist())
    )
    sampled(model, 40, control, steps=1, cfg=1.0)
    assert seen == [list(range(40))]


def conditions_in_each_call(applied, node, control):
    """Of the UNet, over a step of 40 frames in windows that are automatic or core's, with a control on cond and uncond."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    model = applied.clone()
    if node == "core's":
        model = ContextWindowsManualNode.execute(
            model, 16, 4, "standard_static", 1, False, "pyramid", 0, False, causal_window_fix=False
        ).args[0]
    calls = []
    model.set_model_input_block_patch(lambda h, options: calls.append(options["cond_or_uncond"]) or h)
    sampled(model, 40, control, control, steps=1)
    return calls


@pytest.mark.parametrize("node", ["automatic", "core's"])
def test_cond_and_uncond_with_one_control_stay_one_call_of_the_unet(applied, node):
    control = with_hints(controls.index_control(), controls.numbered(40))
    calls = conditions_in_each_call(applied, node, control)
    assert calls and all(len(call) == 2 for call in calls)


class ChoosesItself(comfy.controlnet.ControlBase):
    """As Advanced-ControlNet's: keeps all hints, takes those that sub_idxs names, and is asked through an attribute."""

    def __init__(self, seen):
        super().__init__()
        self.sub_idxs = self.full_latent_length = self.context_length = None
        self.seen = seen
        self.get_control = self.control_of_its_frames  # bound to this object, wherever it is copied to

    def control_of_its_frames(self, x_noisy, t, cond, batched_number, transformer_options):
        window = transformer_options["context_window"].index_list
        self.seen.append((list(window), self.sub_idxs, self.full_latent_length, self.context_length))
        assert len(self.cond_hint_original) == 40

    def get_models(self):
        return []


def test_another_packs_control_is_told_which_frames_the_window_holds(applied):
    seen = []
    control = ChoosesItself(seen)
    control.cond_hint_original = controls.numbered(40)
    chained = with_hints(controls.index_control(), controls.numbered(40), previous=control)
    sampled(applied, 40, chained, steps=2, cfg=1.0)
    assert len(seen) == 6 and control.sub_idxs is None
    for window, indices, full, length in seen:
        assert indices == window and full == 40 and length == len(window)


def test_fewer_hints_than_frames_are_repeated_and_told_once(applied, caplog):
    caplog.set_level(logging.WARNING)
    control = with_hints(controls.index_control(), controls.numbered(12))
    sampled(applied, 40, control, control)
    assert caplog.text.count("12 ControlNet hints for 40 frames: they are repeated") == 1


@pytest.mark.parametrize("frames", [8, 40])
def test_no_hints_at_all_are_refused_with_what_to_do(applied, frames):
    control = with_hints(controls.controlnet(), controls.numbered(0))
    with pytest.raises(ValueError, match="A ControlNet has no hint images.*image input"):
        sampled(applied, frames, control)


def test_hints_of_another_size_fit_their_frames(applied):
    every = torch.nn.functional.interpolate(controls.numbered(40), (96, 48))
    found = hints_of_windows(
        applied, WindowSettings(16, 4), 40, with_hints(controls.index_control(), every), 1
    )
    assert all(window == given for window, given in found)


def test_the_control_that_the_user_connected_is_left_alone(applied):
    control = with_hints(controls.index_control(), controls.numbered(40))
    windowed = control_of_frames(control, [3, 4], 40)
    assert windowed is not control and len(control.cond_hint_original) == 40 and control.cond_hint is None


@pytest.mark.parametrize("frames", [4, 40])
@pytest.mark.parametrize("make", [controls.controlnet, controls.t2i_adapter])
def test_a_control_acts_in_the_steps_without_guidance_too(applied, make, frames, caplog):
    control = with_hints(make(), controls.numbered(frames))
    prompts, nothing = conditions(control, control), torch.zeros(frames, 4, 8, 8)
    settings = SamplerSettings(seed=1, steps=4, cfg=4.0, cfg_until=0.5)
    found = sample(applied, *prompts, {"samples": nothing}, settings)["samples"]
    assert "could not be applied" not in caplog.text
    half, sigmas = (comfy.sample.prepare_noise(nothing, 1), nothing), make_sigmas(applied, "linspace", 4)
    for cfg, levels in ((4.0, sigmas[:3]), (1.0, sigmas[2:])):
        euler = comfy.samplers.sampler_object("euler")
        end = comfy.sample.sample_custom(
            applied, half[0], cfg, euler, levels, *prompts, half[1], disable_pbar=True
        )
        half = nothing, end
    assert torch.allclose(found, half[1], atol=1e-4)
