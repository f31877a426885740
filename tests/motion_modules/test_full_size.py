"""The real sizes and the real detection path: a random SD1.5 checkpoint file and a random v2 motion module file."""

from __future__ import annotations

import gc

import components
import pytest
import torch
from safetensors.torch import save_file

import comfy.model_management
import comfy.ops
import folder_paths
import nodes
from comfy.supported_models import SD15
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.checkpoint import load_motion_module
from fast_animatediff.motion_modules.model import MotionModule, MotionModuleConfig
from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
from fast_animatediff.motion_modules.sampling import sample

pytestmark = pytest.mark.slow


def random_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """fp16 weights for a module without memory of its own, of about unit gain: 4,194,301 numbers, again and again."""
    numbers = torch.empty(4_194_301).uniform_(-1.7, 1.7, generator=torch.Generator().manual_seed(0))
    weights = {}
    for key, parameter in module.state_dict().items():
        if parameter.ndim > 1:
            gain = 0.7 / parameter[0].numel() ** 0.5
            scaled, count = (gain * numbers[: parameter.numel()]).half(), parameter.numel()
            weights[key] = scaled.repeat(-(-count // len(scaled)))[:count].view(parameter.shape)
        else:
            weights[key] = torch.full(
                parameter.shape, 1.0 if "norm" in key and "weight" in key else 0.0
            ).half()
    return weights


@pytest.fixture
def model_files(tmp_path, monkeypatch):
    """A full-size UNet as a checkpoint file holds it, and a full-size motion module."""
    meta = torch.device("meta")
    unet_config = SD15.unet_config | {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "num_res_blocks": [2, 2, 2, 2], "num_heads": 8,
        "channel_mult": (1, 2, 4, 4), "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "use_spatial_transformer": True,
        "use_linear_in_transformer": False, "legacy": False, "dtype": torch.float16,
    }  # fmt: skip
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(**unet_config, device=meta, operations=comfy.ops.disable_weight_init)
    weights = {f"model.diffusion_model.{key}": value for key, value in random_weights(unet).items()}
    (tmp_path / "checkpoints").mkdir()
    save_file(weights, tmp_path / "checkpoints" / "sd15.safetensors")
    config = MotionModuleConfig("mm.safetensors", families.V2, (320, 640, 1280, 1280), 32, has_mid_block=True)
    module = MotionModule(config, torch.float16, meta, comfy.ops.manual_cast)
    motion = random_weights(module)
    motion[
        "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
    ] = torch.zeros(1, 32, 1280)
    save_file(motion, tmp_path / "mm.safetensors")
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths,
        "checkpoints",
        ([str(tmp_path / "checkpoints")], folder_paths.supported_pt_extensions),
    )
    yield tmp_path
    comfy.model_management.unload_all_models()
    gc.collect()


def test_a_full_size_checkpoint_and_motion_module_are_recognised_and_take_a_step(model_files):
    (model, _, _) = nodes.CheckpointLoaderSimple().load_checkpoint("sd15.safetensors")
    motion_module = load_motion_module(str(model_files / "mm.safetensors"))
    assert motion_module.model.config.family == families.V2
    assert sum(p.numel() for p in motion_module.model.parameters()) == 453_209_280
    applied = apply_motion_module(model, motion_module)
    conditioning = [[torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(1)), {}]]
    latent = {"samples": torch.zeros(16, 4, 8, 8)}
    settings = SamplerSettings(seed=1, steps=1, cfg=1.0)
    samples = sample(applied, conditioning, conditioning, latent, settings)["samples"]
    assert samples.shape == (16, 4, 8, 8) and torch.isfinite(samples).all() and samples.std() > 0.01
    with pytest.raises(
        ValueError, match=r"channels \(32, 64, 128, 128\).*SD15 with \(320, 640, 1280, 1280\)"
    ):
        apply_motion_module(model, components.motion_module())
