"""A block of the temporal transformer by Triton's kernels, in two ways; they may overwrite its features (n, f, c).

No more than two layers' weights are held at once: where they are not on the card, the host has two places to put them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from .projections import CastLayer, cast_once, linear
from .temporal import GEGLU, HEADS, TemporalAttention, TemporalTransformerBlock, attend, temperature


def fused_passes(
    block: TemporalTransformerBlock, x: Tensor, positions: Tensor, scale: float | Tensor, elements: int
) -> Tensor:
    """block(x, ...), in six kernels less: what stands between two matrix products is one pass over memory."""
    from . import triton_kernels as kernels

    first, second = (cast(TemporalAttention, attention) for attention in block.attention_blocks)
    with _norm(block.norms[0], x) as norm:
        h = kernels.norm(x, *norm, positions)
    y = _attended(first, h, scale)
    with _norm(block.norms[1], x) as norm:
        h = kernels.add_norm(x, y, *norm, positions, None)
    y = _attended(second, h, scale)
    return _feed_forward(block, x, y, elements, lambda h, widen: kernels.geglu(linear(widen, h)))


def can_fuse_products(x: Tensor, scale: float | Tensor) -> bool:
    """Whether `fused_products` takes such features."""
    from . import triton_kernels, triton_products

    return (
        x.dtype in (torch.float16, torch.bfloat16)
        and x.shape[1] <= triton_kernels.MOST_FRAMES
        and x.shape[2] % triton_products.DEPTH == 0
        and not isinstance(scale, Tensor)
    )


def fused_products(
    block: TemporalTransformerBlock, x: Tensor, positions: Tensor, scale: float | Tensor, elements: int
) -> Tensor:
    """block(x, ...), in eleven kernels less: also the queries, keys and values, and the wide activation, stay in the chip."""
    from . import triton_products as kernels

    first, second = (cast(TemporalAttention, attention) for attention in block.attention_blocks)
    factor = temperature(x.shape[2], cast(float, scale))
    with cast_once(first.to_qkv, x) as (weight, _), _norm(block.norms[0], x) as norm:
        y = kernels.norm_attention(x, *norm, positions, weight, HEADS, factor)
    y = linear(first.to_out[0], y)
    with cast_once(second.to_qkv, x) as (weight, _), _norm(block.norms[1], x) as norm:
        x, y = kernels.add_norm_attention(x, y, *norm, positions, weight, HEADS, factor)
    y = linear(second.to_out[0], y)
    return _feed_forward(
        block,
        x,
        y,
        elements,
        lambda h, widen: kernels.geglu_product(h, widen.weight, cast(Tensor, widen.bias)),
    )


def _feed_forward(
    block: TemporalTransformerBlock,
    x: Tensor,
    y: Tensor,
    elements: int,
    geglu: Callable[[Tensor, CastLayer], Tensor],
) -> Tensor:
    """x + y + feed_forward(norm(x + y)), in place of x."""
    from . import triton_kernels as kernels

    layers = cast(GEGLU, block.ff.net[0]).proj, block.ff.net[2]
    # The bias is added here, as the product below is added to x in place, which leaves no room for one.
    with cast_once(layers[1], x) as (_, bias), _norm(block.ff_norm, x) as norm:
        h = kernels.add_norm(x, y, *norm, None, bias)
    parts = block.ff.parts(x, elements)
    with cast_once(layers[0], x) as widen, cast_once(layers[1], x) as (weight, _):
        for some_x, some_h in zip(x.chunk(parts), h.chunk(parts), strict=True):
            some_x.view(-1, x.shape[-1]).addmm_(geglu(some_h, widen).flatten(0, 1), weight.t())
    return x


def _attended(attention: TemporalAttention, h: Tensor, motion_scale: float | Tensor) -> Tensor:
    from . import triton_kernels as kernels

    qkv = linear(attention.to_qkv, h)
    channels, frames = h.shape[-1], h.shape[1]
    if frames > kernels.MOST_FRAMES:
        q, k, v = qkv.chunk(3, dim=-1)
        mixed = attend(q, k, v, motion_scale)
    else:
        if isinstance(motion_scale, Tensor):
            qkv[..., :channels] *= motion_scale.view(-1, 1).to(qkv.dtype)
            motion_scale = 1.0
        mixed = kernels.attention(qkv, HEADS, temperature(channels, motion_scale))
    return linear(attention.to_out[0], mixed)


@contextmanager
def _norm(layer: nn.Module, x: Tensor) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Weight, bias and epsilon."""
    with cast_once(layer, x) as (weight, bias):
        yield weight, cast(Tensor, bias), cast(nn.LayerNorm, layer).eps
