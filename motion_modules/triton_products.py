"""Kernels with the matrix products of the temporal transformer inside: what lies between them never reaches memory.

They multiply more slowly than a GPU's own library, and pad heads to a power of two, but move half of the bytes: for cards
with little bandwidth for their speed. fp16 and bf16 only. Otherwise as in `triton_kernels`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_kernels import attend, attention_blocks

DEPTH = 32  # of a product's steps; channels are a multiple of it
GEGLU_ROWS, GEGLU_COLUMNS = 128, 64
GEGLU_OPTIONS = {"num_warps": 8, "num_stages": 3}
GROUP = 8  # tiles of rows that share a tile of weights in the cache


@triton.jit
def normed_attention_kernel(
    x, y, total, out, norm_weight, norm_bias, positions, qkv_weight, sequences, frames, eps, scale,
    ADDS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, FRAMES: tl.constexpr, BLOCK: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """One head of BLOCK tokens: norm, positions, queries, keys and values, and the attention."""
    channels: tl.constexpr = HEADS * WIDTH
    token = tl.arange(0, BLOCK)
    head = tl.program_id(0) % HEADS  # of the same tokens one after the other, which the cache then holds
    sequence = tl.program_id(0) // HEADS * (BLOCK // FRAMES) + token // FRAMES
    frame = token % FRAMES
    is_token = ((sequence < sequences) & (frame < frames))[:, None]
    row = (sequence.to(tl.int64) * frames + frame)[:, None] * channels
    depth = tl.arange(0, DEPTH)[None, :]
    kind = out.dtype.element_ty
    mean = tl.zeros((BLOCK, 1), tl.float32)
    for start in range(0, channels, DEPTH):
        place = row + start + depth
        value = tl.load(x + place, mask=is_token, other=0.0).to(tl.float32)
        if ADDS:
            value = (
                (value + tl.load(y + place, mask=is_token, other=0.0).to(tl.float32)).to(kind).to(tl.float32)
            )
            if head == 0:
                tl.store(total + place, value.to(kind), mask=is_token)
        mean += tl.sum(value, axis=1, keep_dims=True)
    mean /= channels
    variance = tl.zeros((BLOCK, 1), tl.float32)
    for start in range(0, channels, DEPTH):
        place = row + start + depth
        value = tl.load(x + place, mask=is_token, other=0.0).to(tl.float32)
        if ADDS:
            value = (
                (value + tl.load(y + place, mask=is_token, other=0.0).to(tl.float32)).to(kind).to(tl.float32)
            )
        variance += tl.sum((value - mean) * (value - mean), axis=1, keep_dims=True)
    scaling = 1.0 / tl.sqrt(variance / channels + eps)
    column = tl.arange(0, BLOCK_WIDTH)
    is_column = (column < WIDTH)[None, :]
    weights = qkv_weight + (head * WIDTH + column)[None, :] * channels
    q = tl.zeros((BLOCK, BLOCK_WIDTH), tl.float32)
    k = tl.zeros((BLOCK, BLOCK_WIDTH), tl.float32)
    v = tl.zeros((BLOCK, BLOCK_WIDTH), tl.float32)
    for start in range(0, channels, DEPTH):
        place = row + start + depth
        value = tl.load(x + place, mask=is_token, other=0.0).to(tl.float32)
        if ADDS:
            value = (
                (value + tl.load(y + place, mask=is_token, other=0.0).to(tl.float32)).to(kind).to(tl.float32)
            )
        value = (value - mean) * scaling * tl.load(norm_weight + start + depth).to(tl.float32)
        value = (value + tl.load(norm_bias + start + depth).to(tl.float32)).to(kind).to(tl.float32)
        at_frame = positions + frame[:, None] * channels + start + depth
        value += tl.load(at_frame, mask=is_token, other=0.0).to(tl.float32)
        value = value.to(kind)
        part = weights + start + tl.arange(0, DEPTH)[:, None]
        q = tl.dot(value, tl.load(part, mask=is_column, other=0.0), q)
        k = tl.dot(value, tl.load(part + channels * channels, mask=is_column, other=0.0), k)
        v = tl.dot(value, tl.load(part + 2 * channels * channels, mask=is_column, other=0.0), v)
    mixed = attend(q.to(kind), k.to(kind), v.to(kind), sequence, frame, frames, scale)
    place = row + head * WIDTH + column[None, :]
    tl.store(out + place, mixed.to(kind), mask=is_token & is_column)


@triton.jit
def geglu_product_kernel(
    x, h, weight, bias, rows, width,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """ROWS x COLUMNS of value * gelu(gate), the two halves of x @ weight + bias."""
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(width, COLUMNS)
    first = tl.program_id(0) // (GROUP * across) * GROUP
    size = tl.minimum(down - first, GROUP)
    rest = tl.program_id(0) % (GROUP * across)
    row = ((first + rest % size) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = rest // size * COLUMNS + tl.arange(0, COLUMNS)
    is_row, is_column = (row < rows)[:, None], (column < width)[None, :]
    depth = tl.arange(0, DEPTH)
    kind = h.dtype.element_ty
    value = tl.zeros((ROWS, COLUMNS), tl.float32)
    gate = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, CHANNELS, DEPTH):
        some = tl.load(x + row[:, None] * CHANNELS + start + depth[None, :], mask=is_row, other=0.0)
        part = weight + column[None, :] * CHANNELS + start + depth[:, None]
        value = tl.dot(some, tl.load(part, mask=is_column, other=0.0), value)
        gate = tl.dot(some, tl.load(part + width * CHANNELS, mask=is_column, other=0.0), gate)
    value += tl.load(bias + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    gate += tl.load(bias + width + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    gate = gate.to(kind).to(tl.float32)
    gate = (0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))).to(kind).to(tl.float32)
    found = value.to(kind).to(tl.float32) * gate
    tl.store(h + row[:, None] * width + column[None, :], found.to(kind), mask=is_row & is_column)


def attention_options(width: int) -> dict[str, int]:
    """How programs of `normed_attention_kernel` are compiled for heads of this width."""
    is_narrow, is_wide = width <= 64, width > 128
    return {"num_warps": 4 if is_narrow else 8, "num_stages": 2 if is_wide else 3}


def _attention(
    x: Tensor, y: Tensor | None, norm: tuple[Tensor, Tensor, float], positions: Tensor, qkv_weight: Tensor,
    heads: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    n, f, channels = x.shape
    width = channels // heads
    total, out = x if y is None else torch.empty_like(x), torch.empty_like(x)
    blocks = attention_blocks(heads, width, f)
    programs = heads * triton.cdiv(n, blocks["BLOCK"] // blocks["FRAMES"])
    normed_attention_kernel[(programs,)](
        x, y, total, out, norm[0], norm[1], positions, qkv_weight, n, f, norm[2], scale,
        ADDS=y is not None, DEPTH=DEPTH, **blocks, **attention_options(width),
    )  # fmt: skip
    return total, out


@torch.library.custom_op("fast_animatediff::norm_attention", mutates_args=())
def norm_attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    positions: Tensor,
    qkv_weight: Tensor,
    heads: int,
    scale: float,
) -> Tensor:
    """attention(layer_norm(x) + positions), for x (n, f, c) and positions (1, f, c)."""
    return _attention(x, None, (weight, bias, eps), positions, qkv_weight, heads, scale)[1]


@torch.library.custom_op("fast_animatediff::add_norm_attention", mutates_args=())
def add_norm_attention(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, eps: float, positions: Tensor, qkv_weight: Tensor,
    heads: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x + y, and the attention of it, both (n, f, c)."""
    return _attention(x, y, (weight, bias, eps), positions, qkv_weight, heads, scale)


@torch.library.custom_op("fast_animatediff::geglu_product", mutates_args=())
def geglu_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """value * gelu(gate), the two halves of linear(x), for x (n, f, c), weight (8c, c) and bias (8c,): (n, f, 4c)."""
    channels, width = x.shape[-1], weight.shape[0] // 2
    rows = x.numel() // channels
    h = x.new_empty(*x.shape[:-1], width)
    tiles = triton.cdiv(rows, GEGLU_ROWS) * triton.cdiv(width, GEGLU_COLUMNS)
    geglu_product_kernel[(tiles,)](x, h, weight, bias, rows, width, **geglu_blocks(channels), **GEGLU_OPTIONS)
    return h


def geglu_blocks(channels: int) -> dict[str, int]:
    return {
        "CHANNELS": channels,
        "ROWS": GEGLU_ROWS,
        "COLUMNS": GEGLU_COLUMNS,
        "DEPTH": DEPTH,
        "GROUP": GROUP,
    }


@norm_attention.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    positions: Tensor,
    qkv_weight: Tensor,
    heads: int,
    scale: float,
) -> Tensor:
    return torch.empty_like(x)


@add_norm_attention.register_fake
def _(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, eps: float, positions: Tensor, qkv_weight: Tensor,
    heads: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(x), torch.empty_like(x)


@geglu_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0] // 2)
