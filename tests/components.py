"""Small real components for tests: an SD1.5-shaped model, motion modules, LoRAs. Random, seeded, on the CPU."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
from comfy.model_patcher import ModelPatcher
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.cpu import ATTENTION, pytorch_attention
from fast_animatediff.motion_modules.families import Family
from fast_animatediff.motion_modules.model import MotionModule, MotionModuleConfig
from fast_animatediff.motion_modules.temporal import sinusoidal_positions

CPU = torch.device("cpu")
MODEL_CHANNELS = 32
CHANNELS = (32, 64, 128, 128)
CONTEXT_CHANNELS = 24


def sd15_config(model_channels: int = MODEL_CHANNELS, dtype: torch.dtype = torch.float32) -> dict:
    """SD1.5's block layout at another width, as the host describes it."""
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": model_channels,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": (1, 2, 4, 4),
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "num_heads": 4,
        "context_dim": CONTEXT_CHANNELS,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "use_temporal_attention": False,
        "legacy": False,
        "adm_in_channels": None,
        "dtype": dtype,
    }


def sd15_model(
    seed: int = 0,
    model_channels: int = MODEL_CHANNELS,
    dtype: torch.dtype = torch.float32,
    compute_dtype: torch.dtype | None = None,
    patcher_class: type[ModelPatcher] | None = None,
) -> ModelPatcher:
    """A host model with SD1.5's blocks and random weights, as a checkpoint loader would return it."""
    config = comfy.supported_models.SD15(sd15_config(model_channels, dtype))
    config.set_inference_dtype(dtype, compute_dtype)
    model = config.get_model({}, device=CPU)
    randomize(model.diffusion_model, seed)
    patcher = (patcher_class or comfy.model_patcher.ModelPatcher)(model, CPU, CPU)
    # As Apply Motion Module sets it on a CPU, so that models with and without it compute alike, to the last bit.
    patcher.model_options["transformer_options"][ATTENTION] = pytorch_attention
    return patcher


def randomize(module: torch.nn.Module, seed: int) -> None:
    """Weights of about unit gain everywhere, so that nothing vanishes or overflows; no zero layers."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            values *= 0.7 / parameter[0].numel() ** 0.5
        else:
            values = values * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        parameter.data.copy_(values.to(parameter.dtype))


def motion_module(
    family: Family = families.V2,
    channels: tuple[int, ...] = CHANNELS,
    seed: int = 1,
    positions: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> ModelPatcher:
    """A motion module with random weights, as Load Motion Module would return it."""
    has_mid_block = family not in (families.V1, families.V3)
    config = MotionModuleConfig(
        "test.safetensors", family, channels, positions or family.frames, has_mid_block
    )
    module = MotionModule(config, dtype, CPU, comfy.ops.manual_cast).eval().requires_grad_(False)
    randomize(module, seed)
    module.merge_projections(comfy.ops.manual_cast)
    return comfy.model_patcher.ModelPatcher(module, CPU, CPU)


def apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A loaded motion module's weights under the names of checkpoints, where query, key and value are apart."""
    named = {}
    for key, value in weights.items():
        if key.endswith("to_qkv.weight"):
            named |= {
                key.replace("to_qkv", f"to_{p}"): part for p, part in zip("qkv", value.chunk(3), strict=True)
            }
        else:
            named[key] = value
    return named


def original_weights(
    family: Family = families.V2, pe_length: int | None = 32, seed: int = 1
) -> dict[str, Tensor]:
    """A motion module's state dict as guoyww publishes it; pe_length None leaves the position tables out."""
    weights = apart(motion_module(family, seed=seed).model.state_dict())
    if pe_length:
        for key in [key for key in weights if key.endswith("to_q.weight")]:
            table = sinusoidal_positions(pe_length, weights[key].shape[0])
            weights[key.replace("to_q.weight", "pos_encoder.pe")] = table
    return weights


def diffusers_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names that diffusers' MotionAdapter saves."""
    renamed = {}
    for key, value in weights.items():
        if key.endswith("attention_blocks.1.pos_encoder.pe"):
            continue
        for old, new in (
            (".temporal_transformer", ""),
            (".attention_blocks.0.pos_encoder.pe", ".pos_embed.pe"),
            (".attention_blocks.0", ".attn1"),
            (".attention_blocks.1", ".attn2"),
            (".norms.0", ".norm1"),
            (".norms.1", ".norm2"),
            (".ff_norm", ".norm3"),
        ):
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


def motion_lora(rank: int = 4, seed: int = 2) -> dict[str, Tensor]:
    """A camera LoRA for the module above in the original layout, mid block included."""
    generator = torch.Generator().manual_seed(seed)
    lora = {}
    for key, weight in apart(motion_module(families.V2).model.state_dict()).items():
        if ".attention_blocks." not in key or not key.endswith(".weight"):
            continue
        layer = key.removesuffix(".weight").replace("to_out.0", "to_out")
        place, projection = layer.rsplit(".", 1)
        up, down = (
            torch.randn(shape, generator=generator)
            for shape in ((weight.shape[0], rank), (rank, weight.shape[1]))
        )
        lora[f"{place}.processor.{projection}_lora.up.weight"] = up * 0.1
        lora[f"{place}.processor.{projection}_lora.down.weight"] = down * 0.1
    return lora


def save(weights: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> str:
    save_file({key: value.contiguous() for key, value in weights.items()}, str(path), metadata)
    return str(path)


def conditioning(seed: int = 3, tokens: int = 7) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, tokens, CONTEXT_CHANNELS, generator=generator), {}]]


def noise(frames: int, size: int = 8, seed: int = 4) -> Tensor:
    return torch.randn(frames, 4, size, size, generator=torch.Generator().manual_seed(seed))


def predict(
    model: ModelPatcher, x: Tensor, sigma: float = 3.0, cfg_chunks: int = 1, context: Tensor | None = None
) -> Tensor:
    """The host's denoised prediction of one call, chunks of cond and uncond stacked as the host stacks them."""
    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    model.pre_run()
    options = comfy.model_patcher.create_model_options_clone(model.model_options)["transformer_options"]
    options["wrappers"] = copy.copy(model.wrappers)
    options["cond_or_uncond"] = list(range(cfg_chunks))
    context = conditioning()[0][0] if context is None else context
    try:
        return model.model.apply_model(
            x,
            torch.full((x.shape[0],), sigma),
            c_crossattn=context.expand(x.shape[0], -1, -1),
            transformer_options=options,
        )
    finally:
        model.cleanup()
