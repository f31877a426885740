"""This pack with fused kernels in all motion layers, without the trial, for which there may be no card."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import shape_wrapper

from .counting import FORMULAS, linear_flops


def with_fused_kernels(model: Any, way: str) -> Any:
    """way: a function of `fused_blocks`."""
    from comfy.patcher_extension import WrappersMP
    from fast_animatediff.motion_modules import fused_blocks
    from fast_animatediff.motion_modules.adapter import KEY
    from fast_animatediff.motion_modules.fused_kernels import FusedKernels

    count_fused_products()
    model = model.clone()
    [wrapper] = model.wrappers[WrappersMP.APPLY_MODEL][KEY]
    fused = replace(wrapper, run=FusedKernels(always=getattr(fused_blocks, way)))
    model.wrappers[WrappersMP.APPLY_MODEL][KEY] = [fused]
    return model


def count_fused_products() -> None:
    """Lets the operators with matrix products inside be counted with these; heads are padded to a power of two."""
    from fast_animatediff.motion_modules import triton_products  # noqa: F401  # its operators
    from fast_animatediff.motion_modules.triton_kernels import attention_blocks

    def attention_flops(x: Any, *arguments: Any, **_: Any) -> int:
        heads = next(argument for argument in arguments if isinstance(argument, int))
        n, f, channels = x
        width = attention_blocks(heads, channels // heads, f)["BLOCK_WIDTH"]
        return 2 * n * f * channels * 3 * heads * width

    operators = torch.ops.fast_animatediff
    for name in ("norm_attention", "add_norm_attention"):
        FORMULAS[getattr(operators, name)] = shape_wrapper(attention_flops)
    FORMULAS[operators.geglu_product] = shape_wrapper(linear_flops)
