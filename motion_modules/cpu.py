"""What SD1.5 with motion does on a CPU instead of the host's defaults, which were chosen for old processors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import comfy.ops
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher

from .host_internals import (
    ATTENTION,
    COMPUTE_DTYPE,
    Executor,
    archive_model_dtypes,
    attention_pytorch,
    fell_back_to_sub_quadratic_attention,
)
from .model import MotionModule

log = logging.getLogger(__name__)

NARROW = 8  # the largest width, in latents, that SD1.5 halves to one place


def use_pytorch_attention(model: ModelPatcher) -> None:
    """Replaces sub-quadratic attention where the host fell back to it and nobody asked for it.

    PyTorch's own gives the same result in half the time on a CPU (measured), and torch.compile can trace it.
    """
    is_default = fell_back_to_sub_quadratic_attention() and not args.use_quad_cross_attention
    if model.load_device.type == "cpu" and is_default:
        model.model_options["transformer_options"].setdefault(ATTENTION, pytorch_attention)


def pytorch_attention(chosen_by_host: Callable, *arguments: Any, **options: Any) -> Tensor:
    return attention_pytorch(*arguments, **options)


def has_native_bf16() -> bool:
    """Whether this processor multiplies in bf16: AVX512_BF16 (Zen 4, Cooper Lake) or AMX (Sapphire Rapids)."""
    tests = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(test is not None and test() for test in tests)


def can_compute_in_bf16(model: ModelPatcher) -> bool:
    """Whether the model runs on a CPU made for bf16, and nobody chose another type."""
    is_chosen = args.force_fp32 or args.fp32_unet or args.fp64_unet or COMPUTE_DTYPE in model.object_patches
    return model.load_device.type == "cpu" and has_native_bf16() and not is_chosen


def compute_in_bf16(model: ModelPatcher) -> None:
    """Lets the UNet, and with it the motion module, compute in bf16; on a CPU the host itself knows only fp32.

    The UNet's weights stay as they are and are cast at each use, unless ComfyUI was started with --bf16-unet.
    The new compute type makes the host apply the model's LoRAs again whenever this node runs anew.
    Never fp16, which is eleven times slower than bf16 on such processors (measured).
    """
    model.set_model_compute_dtype(torch.bfloat16)


def narrow_clips_in_fp32(executor: Executor, noise: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """OUTER_SAMPLE wrapper: lets clips in which bf16 fails compute in fp32.

    On processors with AMX, PyTorch 2.14's 3x3 convolution of stride 2 in bf16 gives what memory held before, NaN at worst,
    where its output is one place wide and more than one high. Without oneDNN it is right, and 200 times as slow.
    """
    guider = executor.class_obj
    held: ModelPatcher = guider.model_patcher
    height, width = noise.shape[-2:]
    if (
        width > NARROW
        or height <= max(width, 2)
        or held.object_patches.get(COMPUTE_DTYPE) is not torch.bfloat16
    ):
        return executor(noise, *arguments, **options)
    log.info("A clip of %d pixels' width is computed in fp32: bf16 can't be relied on there.", 8 * width)
    guider.model_patcher = held.clone()
    guider.model_patcher.set_model_compute_dtype(torch.float32)
    try:
        return executor(noise, *arguments, **options)
    finally:
        guider.model_patcher = held


def in_bf16(motion_module: ModelPatcher) -> ModelPatcher:
    """A copy of the motion module as it was read, with its weights cast once instead of at each use.

    The host patches LoRAs into the weights that all clones share, and keeps what was there in `backup`.
    """
    held: MotionModule = motion_module.model
    module = MotionModule(held.config, torch.bfloat16, motion_module.offload_device, comfy.ops.manual_cast)
    module.merge_projections(comfy.ops.manual_cast)
    module.eval().requires_grad_(False).load_state_dict(
        held.state_dict() | {key: kept.weight for key, kept in motion_module.backup.items()}
    )
    archive_model_dtypes(module)
    return type(motion_module)(module, motion_module.load_device, motion_module.offload_device)
