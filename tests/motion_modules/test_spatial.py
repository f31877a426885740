from __future__ import annotations

import components
import pytest
import torch
from costs import costs_of

import comfy.ops
import comfy.supported_models
from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from fast_animatediff.motion_modules import cpu, families, spatial
from fast_animatediff.motion_modules.adapter import (
    KEY,
    LAYER_PATCH,
    MotionState,
    apply_motion_module,
    motion_layer,
)
from fast_animatediff.motion_modules.model import MotionModule, MotionModuleConfig

FRAMES = 5
MEBIBYTE = 2**20


@pytest.fixture
def applied():
    return apply_motion_module(components.sd15_model(), components.motion_module())


def test_some_frames_at_a_time_give_the_same_result(applied, monkeypatch):
    x = components.noise(2 * FRAMES)
    expected = components.predict(applied, x, cfg_chunks=2)
    monkeypatch.setattr(spatial, "FEED_FORWARD_ELEMENTS", 20_000)
    result = components.predict(applied, x, cfg_chunks=2)
    assert (result - expected).norm() / expected.norm() < 1e-5


def test_a_patch_inside_sees_all_frames_at_once(applied, monkeypatch):
    monkeypatch.setattr(spatial, "FEED_FORWARD_ELEMENTS", 1000)
    batches = set()
    applied.set_model_attn1_patch(lambda q, k, v, options: batches.add(q.shape[0]) or (q, k, v))
    components.predict(applied, components.noise(FRAMES))
    assert batches == {FRAMES}


def test_another_packs_attention_sees_all_frames_at_once(applied, monkeypatch):
    monkeypatch.setattr(spatial, "FEED_FORWARD_ELEMENTS", 1000)
    batches = set()

    def attention(chosen_by_host, q, *arguments, **options):
        batches.add(q.shape[0])
        return cpu.pytorch_attention(chosen_by_host, q, *arguments, **options)

    applied.model_options["transformer_options"][cpu.ATTENTION] = attention
    components.predict(applied, components.noise(FRAMES))
    assert batches == {FRAMES}


def test_a_block_whose_forward_another_pack_replaced_sees_all_frames_at_once(applied, monkeypatch):
    """Reference attention keeps the whole batch's features from one call for the next."""
    monkeypatch.setattr(spatial, "FEED_FORWARD_ELEMENTS", 1000)
    batches = set()
    for block in applied.model.diffusion_model.modules():
        if isinstance(block, BasicTransformerBlock):
            monkeypatch.setattr(block, "forward", counting(block.forward, batches))
    components.predict(applied, components.noise(FRAMES))
    assert batches == {FRAMES}


def counting(forward, batches):
    def counted(x, *arguments, **options):
        batches.add(x.shape[0])
        return forward(x, *arguments, **options)

    return counted


@pytest.mark.slow
def test_two_clips_of_16_frames_at_512x512_take_at_most_1200_mebibytes():
    """Computed in one piece, as by AnimateDiff-Evolved, the UNet alone takes 2080."""
    dtype, meta, channels = torch.float16, torch.device("meta"), (320, 640, 1280, 1280)
    config = components.sd15_config(320, dtype) | {"context_dim": 768, "num_heads": 8}
    model_config = comfy.supported_models.SD15(config)
    model_config.set_inference_dtype(dtype, None)
    unet = model_config.get_model({}, device=meta).diffusion_model
    motion_config = MotionModuleConfig("test.safetensors", families.V2, channels, 32, True)
    module = MotionModule(motion_config, dtype, meta, comfy.ops.manual_cast)
    module.merge_projections(comfy.ops.manual_cast)
    options = {
        "patches": {LAYER_PATCH: [((ResBlock, SpatialTransformer), motion_layer)]},
        KEY: MotionState(module, 1.0, 1.0, range(16)),
        cpu.ATTENTION: cpu.pytorch_attention,
    }
    x = torch.empty(32, 4, 64, 64, dtype=dtype, device=meta)
    context = torch.empty(32, 77, 768, dtype=dtype, device=meta)
    timesteps = torch.empty(32, device=meta)
    costs = costs_of(lambda: unet(x, timesteps, context, transformer_options=options))
    assert costs.peak <= 1200 * MEBIBYTE, costs.peak / MEBIBYTE
