"""What a run settles when it begins: masks and prompts frame by frame, other packs' windows, what can't be windowed."""

from __future__ import annotations

from types import SimpleNamespace

import components
import pytest
import torch

import comfy.sample
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_sag import SelfAttentionGuidance
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.motion_settings import MotionSettings
from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
from fast_animatediff.motion_modules.sampling import make_sigmas, sample
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows


@pytest.fixture(scope="module")
def applied():
    return apply_motion_module(components.sd15_model(), components.motion_module())


def sampled(model, frames, positive, steps=1, cfg=1.0, mask=None, size=8):
    return comfy.sample.sample(
        model, components.noise(frames, size), steps, cfg, "euler", "simple", positive, components.conditioning(5),
        torch.zeros(frames, 4, size, size), noise_mask=mask, seed=1, disable_pbar=True,
    )  # fmt: skip


def masks(frames):
    """A mask for each frame, with a bar that moves on by a column a frame."""
    found = torch.zeros(frames, 8, 8)
    for frame, mask in enumerate(found):
        mask[:, frame % 8] = 1.0
    return found


@pytest.mark.parametrize("frames", [12, 40])
@pytest.mark.parametrize("rows", [16, 5, 60])
def test_masks_of_another_length_than_the_clip_keep_their_frames_and_are_told_once(
    applied, frames, rows, caplog
):
    every = masks(60)

    def regional(mask):
        return components.conditioning(7) + [[components.conditioning(3)[0][0], {"mask": mask}]]

    expected = sampled(applied, frames, regional(every[[frame % rows for frame in range(frames)]]))
    assert torch.equal(sampled(applied, frames, regional(every[:rows])), expected)
    assert caplog.text.count(f"{rows} masks for {frames} frames") == 1
    assert not torch.equal(sampled(applied, frames, regional(every[:1])), expected)


def test_masks_of_apply_of_another_number_than_the_frames_are_told_once(caplog):
    settings = MotionSettings(mask=masks(5))
    model = apply_motion_module(components.sd15_model(), components.motion_module(), settings)
    sampled(model, 4, components.conditioning(3), steps=2)
    assert caplog.text.count("5 masks on Apply Motion Module for 4 frames: the first are used") == 1


def test_a_noise_mask_for_each_frame_keeps_what_it_covers_in_windows(applied):
    found = sampled(applied, 40, components.conditioning(3), mask=masks(40)[:, None])
    is_kept = found.abs().amax(dim=1) < 1e-3  # the host's sums round
    assert torch.equal(is_kept, masks(40) == 0.0)


def test_windows_of_animatediff_evolved_are_not_windowed_again(applied):
    """Its wrapper splits the clip below the host's windows, and says so to other packs in ad_params."""
    seen = []

    def in_sixteens(executor, model, conds, x, timestep, model_options):
        found = [torch.zeros_like(x) for _ in conds]
        for start in range(0, len(x), 16):
            frames = list(range(start, min(start + 16, len(x))))
            options = dict(model_options)
            params = {"full_length": len(x), "context_length": 16, "sub_idxs": frames}
            options["transformer_options"] = model_options["transformer_options"] | {"ad_params": params}
            parts = executor(model, conds, x[frames], timestep[frames], options)
            for whole, part in zip(found, parts, strict=True):
                whole[frames] = part
        return found

    theirs = applied.clone()
    theirs.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "ADE", in_sixteens)
    theirs.set_attachments("ADE_params", SimpleNamespace(context_options=SimpleNamespace(context_length=16)))
    theirs.set_model_input_block_patch(lambda h, options: seen.append(options["ad_params"]["sub_idxs"]) or h)
    ours = set_windows(applied, make_windows(WindowSettings(16, 4, "batched", "flat")))
    for frames in (24, 40):
        found = sampled(theirs, frames, components.conditioning(3), cfg=4.0)
        expected = sampled(ours, frames, components.conditioning(3), cfg=4.0)
        assert torch.allclose(found, expected, atol=1e-5)
    assert seen[-1] == list(range(32, 40))


@pytest.mark.parametrize(
    ("name", "patched"),
    [
        ("Self-Attention Guidance", lambda model: SelfAttentionGuidance.execute(model, 0.5, 2.0).args[0]),
        ("EasyCache", lambda model: EasyCacheNode.execute(model, 0.2, 0.15, 0.95, False).args[0]),
    ],
)
def test_what_keeps_one_call_for_the_next_is_refused_in_windows_with_what_to_do(applied, name, patched):
    model = patched(applied)
    with pytest.raises(ValueError, match=f"{name} does not work in context windows.*motion_l"):
        sampled(model, 40, components.conditioning(3), cfg=4.0)
    layers = set_windows(model, make_windows(WindowSettings(16, 4, motion_layers_only=True)))
    for frames, either in ((8, model), (40, layers)):
        assert torch.isfinite(sampled(either, frames, components.conditioning(3), cfg=4.0, size=16)).all()


@pytest.mark.parametrize(("number", "told"), [(1, False), (2, True), (3, False), (5, True)])
def test_noise_masks_of_another_number_than_the_frames_are_told(applied, number, told, caplog):
    latent = {"samples": torch.ones(3, 4, 8, 8), "noise_mask": torch.ones(number, 1, 8, 8)}
    settings = SamplerSettings(seed=1, steps=1, cfg=1.0)
    sample(applied, components.conditioning(3), components.conditioning(5), latent, settings)
    assert (f"{number} noise masks for 3 frames" in caplog.text) == told


def test_a_scheduler_without_noise_levels_for_one_step_is_named(applied):
    with pytest.raises(ValueError, match="Scheduler kl_optimal has no noise levels for 1 step"):
        make_sigmas(applied, "kl_optimal", 1)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("which", ["positive", "negative"])
def test_a_prompt_that_is_infinite_is_told_before_a_step_runs(applied, which, value):
    """As of (cat:1e400), which the host takes for a weight."""
    prompts = {"positive": components.conditioning(7), "negative": components.conditioning(5)}
    prompts[which][0][0][0, 2, 1] = value
    with pytest.raises(ValueError, match=rf"The {which} prompt .*weights, such as \(words:1.2\)"):
        comfy.sample.sample(
            applied, components.noise(4), 1, 4.0, "euler", "simple", *prompts.values(), torch.zeros(4, 4, 8, 8), seed=1
        )  # fmt: skip
