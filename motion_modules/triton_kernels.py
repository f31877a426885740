"""Kernels of the temporal transformer for one pass over memory where PyTorch takes two to four. Inference only.

Each computes what PyTorch's operators compute one after the other, rounded where those round; a block's last bias alone
comes earlier. To PyTorch they are
operators of their own, with shapes for tensors without values. This file is imported only where it is asked for: Triton
comes with PyTorch on Linux alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_FRAMES = 32
FEWEST_FRAMES = 16  # a matrix product takes no fewer rows
GEGLU_BLOCK = 1024
# Elements that a program holds at once: more spill from its registers (seen with ptxas for sm_80 to sm_90).
NORM_ELEMENTS = 2048
ATTENTION_ELEMENTS = 8192


@triton.jit
def norm_kernel(
    x, y, h, weight, bias, positions, shift, rows, frames, channels, eps,
    ADDS: tl.constexpr, PLACES: tl.constexpr, SHIFTS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    is_channel = column < channels
    inside = (row < rows) & is_channel
    place = row * channels + column
    kind = h.dtype.element_ty
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        value = (value + tl.load(y + place, mask=inside, other=0.0).to(tl.float32)).to(kind).to(tl.float32)
        kept = value
        if SHIFTS:
            kept += tl.load(shift + column, mask=is_channel, other=0.0).to(tl.float32)
        tl.store(x + place, kept.to(kind), mask=inside)
    mean = tl.sum(value, axis=1, keep_dims=True) / channels
    value = tl.where(inside, value - mean, 0.0)
    variance = tl.sum(value * value, axis=1, keep_dims=True) / channels
    value = value * (1.0 / tl.sqrt(variance + eps))
    value *= tl.load(weight + column, mask=is_channel, other=0.0).to(tl.float32)
    value += tl.load(bias + column, mask=is_channel, other=0.0).to(tl.float32)
    if PLACES:
        where = row % frames * channels + column
        value = value.to(kind).to(tl.float32) + tl.load(positions + where, mask=inside, other=0.0).to(
            tl.float32
        )
    tl.store(h + place, value.to(kind), mask=inside)


@triton.jit
def geglu_kernel(x, h, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    kind = h.dtype.element_ty
    value = tl.load(x + row * 2 * width + column, mask=inside).to(tl.float32)
    gate = tl.load(x + row * 2 * width + width + column, mask=inside).to(tl.float32)
    gate = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(h + row * width + column, (value * gate.to(kind).to(tl.float32)).to(kind), mask=inside)


@triton.jit
def attend(q, k, v, sequence, frame, frames, scale):
    """Softmax attention of tokens to those of their own sequence; padding beyond its frames is seen by none."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * 1.4426950408889634)
    sees = (sequence[:, None] == sequence[None, :]) & (frame < frames)[None, :]
    scores = tl.where(sees, scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, axis=1)[:, None])
    weights /= tl.sum(weights, axis=1)[:, None]
    return tl.dot(weights.to(v.dtype), v, input_precision="ieee")


@triton.jit
def attention_kernel(
    qkv, out, sequences, frames, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, FRAMES: tl.constexpr, BLOCK: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
):  # fmt: skip
    """One head of BLOCK tokens, of BLOCK / FRAMES sequences."""
    token = tl.arange(0, BLOCK)
    sequence = tl.program_id(0) * (BLOCK // FRAMES) + token // FRAMES
    frame = token % FRAMES
    column = tl.arange(0, BLOCK_WIDTH)[None, :]
    inside = ((sequence < sequences) & (frame < frames))[:, None] & (column < WIDTH)
    row = (sequence.to(tl.int64) * frames + frame)[:, None]
    first = tl.program_id(1) * WIDTH + column
    place = row * (3 * HEADS * WIDTH) + first
    q = tl.load(qkv + place, mask=inside, other=0.0)
    k = tl.load(qkv + place + HEADS * WIDTH, mask=inside, other=0.0)
    v = tl.load(qkv + place + 2 * HEADS * WIDTH, mask=inside, other=0.0)
    mixed = attend(q, k, v, sequence, frame, frames, scale)
    tl.store(out + row * (HEADS * WIDTH) + first, mixed.to(v.dtype), mask=inside)


def norm_blocks(channels: int) -> dict[str, int]:
    block = triton.next_power_of_2(channels)
    return {"ROWS": max(1, NORM_ELEMENTS // block), "BLOCK": block}


def attention_blocks(heads: int, width: int, frames: int) -> dict[str, int]:
    block_width = max(FEWEST_FRAMES, triton.next_power_of_2(width))
    return {
        "HEADS": heads,
        "WIDTH": width,
        "FRAMES": FEWEST_FRAMES if frames <= FEWEST_FRAMES else MOST_FRAMES,
        "BLOCK": max(MOST_FRAMES, min(64, ATTENTION_ELEMENTS // block_width)),
        "BLOCK_WIDTH": block_width,
    }


def _normed(
    x: Tensor,
    y: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    positions: Tensor | None,
    shift: Tensor | None,
) -> Tensor:
    channels, h = x.shape[-1], torch.empty_like(x)
    rows = x.numel() // channels
    frames = 1 if positions is None else positions.shape[-2]
    blocks = norm_blocks(channels)
    norm_kernel[(triton.cdiv(rows, blocks["ROWS"]),)](
        x, y, h, weight, bias, positions, shift, rows, frames, channels, eps,
        ADDS=y is not None, PLACES=positions is not None, SHIFTS=shift is not None, **blocks,
    )  # fmt: skip
    return h


@torch.library.custom_op("fast_animatediff::norm", mutates_args=())
def norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, positions: Tensor) -> Tensor:
    """layer_norm(x) + positions, for x (n, f, c) and positions (1, f, c)."""
    return _normed(x, None, weight, bias, eps, positions, None)


@torch.library.custom_op("fast_animatediff::add_norm", mutates_args=("x",))
def add_norm(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    positions: Tensor | None,
    shift: Tensor | None,
) -> Tensor:
    """layer_norm(x + y), plus positions (1, f, c) if there are any; x (n, f, c) becomes x + y, plus shift (c,) if there is one."""
    return _normed(x, y, weight, bias, eps, positions, shift)


@torch.library.custom_op("fast_animatediff::geglu", mutates_args=())
def geglu(x: Tensor) -> Tensor:
    """value * gelu(gate), the two halves of x (n, f, 2c)."""
    width = x.shape[-1] // 2
    h = x.new_empty(*x.shape[:-1], width)
    geglu_kernel[(x.numel() // (2 * width), triton.cdiv(width, GEGLU_BLOCK))](x, h, width, BLOCK=GEGLU_BLOCK)
    return h


@torch.library.custom_op("fast_animatediff::attention", mutates_args=())
def attention(qkv: Tensor, heads: int, scale: float) -> Tensor:
    """Softmax attention over at most MOST_FRAMES frames, for queries, keys and values (n, f, 3c) side by side: (n, f, c)."""
    n, f, width = qkv.shape
    width //= 3 * heads
    out, blocks = qkv.new_empty(n, f, heads * width), attention_blocks(heads, width, f)
    programs = triton.cdiv(n, blocks["BLOCK"] // blocks["FRAMES"]), heads
    attention_kernel[programs](qkv, out, n, f, scale, **blocks)
    return out


@norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, positions: Tensor) -> Tensor:
    return torch.empty_like(x)


@add_norm.register_fake
def _(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    positions: Tensor | None,
    shift: Tensor | None,
) -> Tensor:
    return torch.empty_like(x)


@geglu.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)


@attention.register_fake
def _(qkv: Tensor, heads: int, scale: float) -> Tensor:
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)
