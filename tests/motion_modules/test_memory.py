"""Memory of activations, counted: at full size without running there, and over windows in real sampling."""

from __future__ import annotations

import components
import pytest
import torch
from costs import costs_of
from test_windows import run

import comfy.model_management
import comfy.ops
import comfy.supported_models
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.patcher_extension import WrappersMP
from fast_animatediff.motion_modules import cpu, families
from fast_animatediff.motion_modules.adapter import (
    KEY,
    LAYER_PATCH,
    MotionState,
    apply_motion_module,
    motion_layer,
)
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.model import MotionModule, MotionModuleConfig
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

MEBIBYTE = 2**20
FP16, META = torch.float16, torch.device("meta")


@pytest.fixture(scope="module")
def full_size():
    """SD1.5 and a v2 module, without any weights."""
    config = components.sd15_config(320, FP16) | {"context_dim": 768, "num_heads": 8}
    model_config = comfy.supported_models.SD15(config)
    model_config.set_inference_dtype(FP16, None)
    motion_config = MotionModuleConfig("test.safetensors", families.V2, (320, 640, 1280, 1280), 32, True)
    module = MotionModule(motion_config, FP16, META, comfy.ops.manual_cast)
    module.merge_projections(comfy.ops.manual_cast)
    return model_config.get_model({}, device=META), module


def peak_of_two_clips(full_size, size: int, **options) -> int:
    """Bytes alive at once in the UNet's call for two clips of 16 frames of size x size pixels."""
    model, module = full_size
    options |= {
        "patches": {LAYER_PATCH: [((ResBlock, SpatialTransformer), motion_layer)]},
        KEY: MotionState(module, 1.0, 1.0, range(16)),
        cpu.ATTENTION: cpu.pytorch_attention,
    }
    x = torch.empty(32, 4, size // 8, size // 8, dtype=FP16, device=META)
    context = torch.empty(32, 77, 768, dtype=FP16, device=META)
    timesteps = torch.empty(32, device=META)
    return costs_of(lambda: model.diffusion_model(x, timesteps, context, transformer_options=options)).peak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "others", "at_most"),
    [(256, {}, 540), (512, {}, 1200), (512, {"patches_replace": {"attn2": {"an IPAdapter's": None}}}, 2100)],
)
def test_two_clips_of_16_frames_take_at_most_these_mebibytes_and_the_host_makes_room_for_them(
    full_size, size, others, at_most, monkeypatch
):
    """Where other packs' patches keep layers whole, they take as much as with AnimateDiff-Evolved always."""
    monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda: True)
    estimate = full_size[0].memory_required([32, 4, size // 8, size // 8])
    peak = peak_of_two_clips(full_size, size, **others)
    assert peak <= at_most * MEBIBYTE and 1.2 < estimate / peak < 2.5


@pytest.fixture(scope="module")
def applied():
    return apply_motion_module(components.sd15_model(), components.motion_module())


def test_memory_of_windows_does_not_grow_with_the_clip(applied):
    """But for the clip's latents, noise, predictions and their sums: five to six of a latent's size for each frame."""
    windowed = set_windows(applied, make_windows(WindowSettings(24, 0)))
    short, long = (
        costs_of(lambda frames=frames: run(windowed, frames, steps=1, cfg=1.0)).peak for frames in (48, 240)
    )
    assert long - short <= 6 * components.noise(240 - 48).nbytes, (long, short)


@pytest.mark.parametrize(("motion_layers_only", "expected"), [(False, 8), (True, 12)])
def test_the_host_makes_room_for_the_frames_in_memory_at_once(applied, motion_layers_only, expected):
    model = set_windows(applied, make_windows(WindowSettings(8, 0, motion_layers_only=motion_layers_only)))
    shapes = []

    def remember(executor, patcher, noise_shape, *arguments, **options):
        shapes.append(noise_shape)
        return executor(patcher, noise_shape, *arguments, **options)

    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "test", remember)
    run(model, 12, steps=1)
    assert [shape[0] for shape in shapes] == [expected]
