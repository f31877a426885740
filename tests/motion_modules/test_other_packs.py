"""Other packs beside this one: their patches, wrappers and guiders."""

from __future__ import annotations

import components
import pytest
import torch
from test_adapter import FRAMES, predict

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
from comfy.context_windows import (
    IndexListContextHandler,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.patcher_extension import WrappersMP
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows


def test_another_packs_layer_patch_is_called_and_still_followed_by_motion():
    base, module, x = components.sd15_model(), components.motion_module(), components.noise(FRAMES)
    expected = predict(apply_motion_module(base, module), x)
    calls = []

    def theirs(layer, x, emb, context, options, *_):
        calls.append(options["block"])
        return layer(x, context, options)

    for order in ("before", "after"):
        model = base.clone()
        if order == "before":
            model.set_model_forward_timestep_embed_patch((SpatialTransformer, theirs))
        model = apply_motion_module(model, module)
        if order == "after":
            model.set_model_forward_timestep_embed_patch((SpatialTransformer, theirs))
        assert torch.equal(predict(model, x), expected) and len(calls) == 16, order
        calls.clear()


def test_other_packs_read_ad_params():
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    seen = []
    applied.set_model_input_block_patch(lambda h, options: seen.append(options["ad_params"]) or h)
    predict(applied, components.noise(FRAMES))
    assert seen[0] == {"full_length": FRAMES, "context_length": None, "sub_idxs": None}


def test_a_guider_of_two_models_may_have_motion_on_one_of_them():
    from comfy_extras.nodes_custom_sampler import DualModelGuider

    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    guider = DualModelGuider.execute(
        applied,
        components.conditioning(3),
        3.0,
        model_negative=components.sd15_model(7),
        negative=components.conditioning(5),
    ).args[0]
    samples = guider.sample(
        components.noise(2),
        torch.zeros(2, 4, 8, 8),
        comfy.samplers.sampler_object("euler"),
        torch.tensor([9.0, 2.0, 0.0]),
        seed=1,
    )
    assert torch.isfinite(samples).all()


def test_two_packs_that_pass_layers_on_do_not_call_each_other_for_ever():
    model = apply_motion_module(components.sd15_model(), components.motion_module())
    x = components.noise(2)
    expected = predict(model, x)

    def theirs(layer, x, emb, context, options, *rest):
        entries = options["patches"]["forward_timestep_embed_patch"]
        following = next(patch for kind, patch in entries if patch is not theirs and isinstance(layer, kind))
        return following(layer, x, emb, context, options, *rest)

    model = model.clone()
    entries = model.model_options["transformer_options"]["patches"]["forward_timestep_embed_patch"]
    entries.insert(0, ((ResBlock, SpatialTransformer), theirs))
    assert torch.equal(predict(model, x), expected)


@pytest.mark.parametrize("frames", [4, 8, 16])
@pytest.mark.parametrize("how", ["tiles", "conditions apart"])
def test_wrappers_that_change_the_batch_leave_frames_with_their_clip(frames, how):
    """Tiled diffusion stacks tiles along the batch; others run the conditions one after the other."""

    def split(apply, call):
        x, t, c = call["input"], call["timestep"], call["c"]

        def part(value, i, n):
            is_batch = torch.is_tensor(value) and value.shape[:1] == x.shape[:1]
            return value.chunk(n)[i] if is_batch else value

        return torch.cat(
            [apply(part(x, i, 2), part(t, i, 2), **{k: part(v, i, 2) for k, v in c.items()}) for i in (0, 1)]
        )

    def stacked(together):
        def tiles(apply, call):
            x, t, c = call["input"], call["timestep"], call["c"]
            halves = x.chunk(2, dim=3)
            twice = {k: torch.cat([v, v]) if torch.is_tensor(v) else v for k, v in c.items()}
            if together:
                out = apply(torch.cat(halves), torch.cat([t, t]), **twice).chunk(2)
            else:
                out = [apply(half, t, **c) for half in halves]
            return torch.cat(out, dim=3)

        return tiles

    def render(wrapper):
        model = apply_motion_module(components.sd15_model(), components.motion_module()).clone()
        if wrapper:
            model.set_model_unet_function_wrapper(wrapper)
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(components.conditioning(3), components.conditioning(5))
        guider.set_cfg(4.0)
        latent, sampler = torch.zeros(frames, 4, 16, 16), comfy.samplers.sampler_object("euler")
        return guider.sample(components.noise(frames, 16), latent, sampler, torch.tensor([9.0, 0.0]), seed=1)

    wrappers = (stacked(True), stacked(False)) if how == "tiles" else (split, None)
    found, expected = (render(wrapper) for wrapper in wrappers)
    assert (found - expected).norm() / expected.norm() < 1e-5


def sampled(model, frames):
    """One step with cfg, so that cond and uncond are two clips in a batch."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(components.conditioning(3), components.conditioning(5))
    guider.set_cfg(4.0)
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([9.0, 0.0])
    return guider.sample(components.noise(frames), torch.zeros(frames, 4, 8, 8), sampler, sigmas, seed=1)


@pytest.mark.parametrize("rows", [3, 4, 12, 20])
def test_a_batch_that_is_not_made_of_whole_clips_is_refused_and_not_rendered_as_other_clips(rows):
    """Other packs' wrappers call the model for a few frames at a time, or fill the batch up to a size."""

    def first_rows(apply, call):
        def some(value):
            is_batch = torch.is_tensor(value) and len(value) == len(call["input"])
            return torch.cat([value, value])[:rows] if is_batch else value

        return apply(
            some(call["input"]), some(call["timestep"]), **{k: some(v) for k, v in call["c"].items()}
        )

    model = apply_motion_module(components.sd15_model(), components.motion_module())
    model.set_model_unet_function_wrapper(first_rows)
    with pytest.raises(
        ValueError, match=f"a batch of {rows}, .* clips of 8 frames: another node splits or pads"
    ):
        sampled(model, 8)


def test_windows_of_another_pack_that_tells_nobody_are_clips_of_their_own():
    def in_fours(executor, model, conds, x, timestep, model_options):
        parts = zip(x.split(4), timestep.split(4), strict=True)
        found = [executor(model, conds, *part, model_options) for part in parts]
        return [torch.cat(each) for each in zip(*found, strict=True)]

    ours = apply_motion_module(components.sd15_model(), components.motion_module())
    theirs = ours.clone()
    theirs.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "theirs", in_fours)
    expected = sampled(set_windows(ours, make_windows(WindowSettings(4, 0, "batched", "flat"))), 8)
    assert torch.allclose(sampled(theirs, 8), expected, atol=1e-5)


def test_another_packs_own_window_handler_is_used_as_it_is():
    class Theirs(IndexListContextHandler):
        calls = 0

        def combine_context_window_results(self, *arguments):
            Theirs.calls += 1
            super().combine_context_window_results(*arguments)

    model = apply_motion_module(components.sd15_model(), components.motion_module())
    schedule, fuse = get_matching_context_schedule("batched"), get_matching_fuse_method("flat")
    model.model_options["context_handler"] = Theirs(schedule, fuse, 4, causal_window_fix=False)
    sampled(model, 8)
    assert Theirs.calls == 2
