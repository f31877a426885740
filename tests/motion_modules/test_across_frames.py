"""Norms across the frames of a clip, as v1 motion modules need them."""

from __future__ import annotations

import components
import pytest
import torch
from test_adapter import FRAMES, inserted, predict

import comfy.sample
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy_extras.nodes_easycache import EasyCacheNode
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.across_frames import norm_across_frames
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.motion_settings import MotionSettings


class AcrossFrames(torch.nn.Module):
    """A group norm written out with statistics over the group's channels, all frames and all pixels."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        f, c, h, w = x.shape
        groups = x.transpose(0, 1).reshape(32, -1)
        centred = groups - groups.mean(1, keepdim=True)
        normal = centred / (centred.square().mean(1, keepdim=True) + self.norm.eps).sqrt()
        normal = normal.reshape(c, f, h, w).transpose(0, 1)
        return normal * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def make_norms_see_all_frames(unet):
    """v1 as trained: the ResBlocks' norms and the output norm, and no others."""
    count = 1
    for layer in unet.modules():
        if isinstance(layer, ResBlock):
            layer.in_layers[0] = AcrossFrames(layer.in_layers[0])
            layer.out_layers[0] = AcrossFrames(layer.out_layers[0])
            count += 2
    unet.out[0] = AcrossFrames(unet.out[0])
    assert count == 45


def test_v1_normalises_exactly_45_layers_across_the_frames():
    module = components.motion_module(families.V1)
    x, context = components.noise(FRAMES), components.conditioning()[0][0]
    applied = apply_motion_module(components.sd15_model(), module)
    explicit = inserted(components.sd15_model(), module, FRAMES)
    explicit.add_object_patch("model_sampling", applied.get_model_object("model_sampling"))
    plain = predict(explicit, x, context=context)
    make_norms_see_all_frames(explicit.model.diffusion_model)
    assert torch.allclose(predict(applied, x), predict(explicit, x, context=context), atol=1e-5)
    assert not torch.allclose(predict(applied, x), plain, atol=1e-2)


def test_v1_keeps_two_conditions_apart():
    applied = apply_motion_module(components.sd15_model(), components.motion_module(families.V1))
    x = components.noise(2 * FRAMES)
    both = predict(applied, x, cfg_chunks=2)
    assert torch.allclose(both[:FRAMES], predict(applied, x[:FRAMES]), atol=1e-5)


@pytest.mark.parametrize("strength", [0.001, 0.5])
def test_norms_across_the_frames_fade_with_the_strength(strength):
    base, module, x = components.sd15_model(), components.motion_module(families.V1), components.noise(FRAMES)
    off, found, full = (
        predict(apply_motion_module(base, module, MotionSettings(s)), x) for s in (0.0, strength, 1.0)
    )
    distance, whole = (found - off).norm(), (full - off).norm()
    assert 0 < distance < 3 * strength * whole


def test_features_of_thirty_thousand_are_normalised_in_half_precision():
    norm = torch.nn.GroupNorm(4, 8).requires_grad_(False)
    x = (torch.randn(6, 8, 5, 5, generator=torch.Generator().manual_seed(1)).clamp(-3, 3) * 10_000).half()
    exact = norm_across_frames(norm, x.float(), 3)
    rough = norm_across_frames(norm.half(), x, 3).float()
    assert (rough - exact).norm() / exact.norm() < 1e-3


def test_norm_across_one_frame_is_the_plain_norm():
    norm = torch.nn.GroupNorm(4, 8)
    x = torch.randn(3, 8, 5, 5)
    assert torch.allclose(norm_across_frames(norm, x, 1), norm(x), atol=1e-6)


def test_easycache_keeps_the_output_across_the_frames_on_either_side_of_the_node():
    def cached(model):
        return EasyCacheNode.execute(model, 100.0, 0.0, 1.0, False).args[0]  # skips all it may

    def sampled(model):
        return comfy.sample.sample(
            model, components.noise(FRAMES), 6, 1.0, "euler", "simple", components.conditioning(3),
            components.conditioning(5), torch.zeros(FRAMES, 4, 8, 8), seed=1, disable_pbar=True,
        )  # fmt: skip

    base, module = components.sd15_model(), components.motion_module(families.V1)
    behind = sampled(cached(apply_motion_module(base, module)))
    assert torch.equal(behind, sampled(apply_motion_module(cached(base), module)))
    assert not torch.equal(behind, sampled(apply_motion_module(base, module)))
