from __future__ import annotations

import logging
import random

import components
import pytest
import torch

import comfy.sample
import comfy.samplers
from comfy.context_windows import ContextFuseMethods, ContextSchedules, get_context_weights
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

SCHEDULES = [
    ContextSchedules.STATIC_STANDARD,
    ContextSchedules.UNIFORM_STANDARD,
    ContextSchedules.UNIFORM_LOOPED,
    ContextSchedules.BATCHED,
]


def run(model, frames, steps=2, cfg=4.0, latent=None):
    """Samples with the host's own KSampler and returns (frames, lengths of the clips that each UNet call held)."""
    lengths = []

    def remember(h, options):
        lengths.append(h.shape[0] // len(options["cond_or_uncond"]))
        return h

    watched = model.clone()
    watched.set_model_input_block_patch_after_skip(remember)
    samples = comfy.sample.sample(
        watched,
        components.noise(frames),
        steps,
        cfg,
        "euler",
        "simple",
        components.conditioning(3),
        components.conditioning(5),
        torch.zeros(frames, 4, 8, 8) if latent is None else latent,
        seed=1,
        disable_pbar=True,
    )
    return samples, set(lengths)


@pytest.mark.parametrize(
    ("family", "frames", "expected"),
    [
        (families.V1, 24, 24),
        (families.V1, 25, 16),
        (families.V2, 32, 32),
        (families.V2, 33, 16),
        (families.V3, 64, 16),
        (families.LONG_32, 32, 32),
        (families.LONG_32, 33, 32),
        (families.ANIMATE_LCM, 32, 32),
        (families.ANIMATE_LCM, 33, 16),
    ],
)
def test_clips_longer_than_the_module_renders_well_get_windows_by_themselves(family, frames, expected):
    positions = 64 if family in (families.ANIMATE_LCM, families.LONG_32) else family.frames
    applied = apply_motion_module(
        components.sd15_model(), components.motion_module(family, positions=positions)
    )
    samples, lengths = run(applied, frames, steps=1)
    assert lengths == {expected} and samples.shape[0] == frames and torch.isfinite(samples).all()


def test_automatic_windows_equal_the_hosts_node_set_to_frames():
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    chosen = ContextWindowsManualNode.execute(
        applied, 16, 4, "standard_static", 1, False, "pyramid", 0, False, causal_window_fix=False
    ).args[0]
    assert torch.equal(run(applied, 40)[0], run(chosen, 40)[0])


@pytest.mark.parametrize("order", ["before", "after"])
def test_windows_of_the_user_win_whichever_node_comes_first(order):
    model, module = components.sd15_model(), components.motion_module()
    if order == "before":
        model = apply_motion_module(set_windows(model, make_windows(WindowSettings(8, 2))), module)
    else:
        model = set_windows(apply_motion_module(model, module), make_windows(WindowSettings(8, 2)))
    assert run(model, 20)[1] == {8}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fuse", ContextFuseMethods.LIST_STATIC)
def test_every_schedule_and_fuse_method_renders(schedule, fuse):
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    windows = make_windows(
        WindowSettings(4, 1, schedule, fuse, context_stride=2, closed_loop=True, freenoise=True)
    )
    samples, _ = run(set_windows(applied, windows), 10, cfg=1.0)
    assert samples.shape[0] == 10 and torch.isfinite(samples).all()


def test_a_window_longer_than_the_positions_says_what_to_set():
    applied = apply_motion_module(components.sd15_model(), components.motion_module(families.V1))
    with pytest.raises(ValueError, match="at most 24 frames, this window has 30.*context_length to 16"):
        run(set_windows(applied, make_windows(WindowSettings(30, 4))), 40)


def test_overlap_must_be_smaller_than_the_window():
    with pytest.raises(ValueError, match="context_overlap 16 must be smaller than context_length 16"):
        make_windows(WindowSettings(16, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context_overlap": 8}, "context_overlap 8 must be smaller than context_length 8"),
        ({"context_overlap": 9, "freenoise": True}, "context_overlap 9 must be smaller"),
        ({"dim": 2}, "cut dimension 2 of the latent, but the frames are dimension 0. Set dim to 0"),
    ],
)
def test_windows_of_cores_node_that_can_not_be_rendered_say_what_to_set(settings, message):
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    values = {
        "context_length": 8,
        "context_overlap": 2,
        "context_schedule": "standard_static",
        "context_stride": 1,
    }
    values |= {"closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False} | settings
    with pytest.raises(ValueError, match=message):
        run(ContextWindowsManualNode.execute(applied, **values).args[0], 20)


def test_other_packs_read_the_windows_frames_from_ad_params():
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    seen = []
    applied.set_model_input_block_patch(lambda h, options: seen.append(options["ad_params"]) or h)
    run(applied, 40, steps=1)
    windows = [params["sub_idxs"] for params in seen]
    assert windows[0] == list(range(16)) and {frame for window in windows for frame in window} == set(
        range(40)
    )
    assert seen[0]["full_length"] == 40 and seen[0]["context_length"] == 16


def test_the_causal_fix_of_cores_node_is_told_to_other_packs():
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    model = ContextWindowsManualNode.execute(
        applied, 16, 4, "standard_static", 1, False, "pyramid", 0, False, causal_window_fix=True
    ).args[0]
    seen = []
    model.set_model_input_block_patch(
        lambda h, options: seen.append((h.shape[0] // 2, options["ad_params"]["sub_idxs"])) or h
    )
    run(model, 40, steps=1)
    assert {frames for frames, _ in seen} == {16, 17} and all(
        frames == len(indices) for frames, indices in seen
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fuse", ContextFuseMethods.LIST_STATIC)
@pytest.mark.parametrize("layers", [False, True])
def test_windows_of_any_settings_lie_in_the_clip_and_cover_it(schedule, fuse, layers):
    drawn = random.Random(1)
    for _ in range(200):
        frames, length = drawn.randint(2, 200), drawn.randint(2, 40)
        overlap, stride = drawn.randint(0, length - 1), drawn.randint(1, 8)
        settings = WindowSettings(
            length, overlap, schedule, fuse, stride, drawn.random() < 0.5, motion_layers_only=layers
        )
        handler = make_windows(settings)
        handler._step = drawn.randint(0, 30)
        windows = handler.windows_of(frames)
        total = [0.0] * frames
        for window in windows:
            assert len(set(window)) == len(window) <= length and 0 <= min(window) <= max(window) < frames
            weights = get_context_weights(len(window), frames, window, handler)
            for frame, weight in zip(window, weights, strict=True):
                assert weight > 0
                total[frame] += float(weight)
        assert min(total) > 0 and len({tuple(window) for window in windows}) == len(windows), settings
        if layers:
            sums = [0.0] * frames
            for window in handler.layer_windows(frames, torch.device("cpu"), torch.float32):
                for frame, weight in zip(window.frames, window.weights.flatten().tolist(), strict=True):
                    sums[frame] += weight
            assert frames <= length or all(abs(value - 1) < 1e-6 for value in sums)


@pytest.mark.parametrize("rows", [120, 12])
def test_prompts_of_another_length_keep_their_frames_in_windows_and_are_told_once(rows, caplog):
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    prompts = torch.randn(120, 7, components.CONTEXT_CHANNELS, generator=torch.Generator().manual_seed(9))

    def sampled(rows):
        return comfy.sample.sample(
            applied, components.noise(40), 2, 1.0, "euler", "simple", [[rows, {}]], components.conditioning(),
            torch.zeros(40, 4, 8, 8), seed=1, disable_pbar=True,
        )  # fmt: skip

    expected = sampled(prompts[[frame % rows for frame in range(40)]])
    assert torch.equal(sampled(prompts[:rows]), expected)
    assert caplog.text.count(f"{rows} prompts for 40 frames") == 1


@pytest.mark.parametrize(
    ("shape", "named"), [((1, 4, 5, 8, 8), "5 dimensions"), ((2, 16, 8, 8), "16 channels")]
)
def test_latents_of_other_models_are_refused_by_name(shape, named):
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    with pytest.raises(ValueError, match=f"{named}.*Empty Video Latent"):
        guider = comfy.samplers.CFGGuider(applied)
        guider.set_conds(components.conditioning(), components.conditioning())
        latent = torch.zeros(shape)
        guider.sample(
            latent, latent, comfy.samplers.sampler_object("euler"), torch.tensor([9.0, 0.0]), seed=1
        )


def test_one_frame_runs_with_a_warning(caplog):
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    with caplog.at_level(logging.WARNING):
        samples, _ = run(applied, 1)
    assert samples.shape[0] == 1 and "One frame has no motion" in caplog.text
