"""The temporal transformer of AnimateDiff: attention over the frames of each pixel.

Paper: Guo et al. 2023, arXiv 2307.04725. Reference: guoyww/AnimateDiff, animatediff/models/motion_module.py.
Attribute names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

import comfy.model_management

from .host_internals import attention_pytorch, keep_model_dtype
from .projections import add_linear, cast_once, linear, linear_add, linear_geglu

HEADS = 8
NORM_GROUPS = 32
# Largest GEGLU activation in elements; the feed-forward splits its tokens to stay under it, or under a larger limit
# where memory is plentiful.
FEED_FORWARD_ELEMENTS = 2**26
# Sequences in one call of attention: CUDA's kernels fail at 65,536 (pytorch issue 142228).
SEQUENCES = 2**15
MATRIX_FORM_SEQUENCES = 256


def sinusoidal_positions(length: int, channels: int) -> Tensor:
    """Positions of Vaswani et al. 2017, sine on even and cosine on odd channels: (1, length, channels), fp32."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(10000.0) / channels))
    table = torch.zeros(1, length, channels)
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)
    return table


def attend(q: Tensor, k: Tensor, v: Tensor, motion_scale: float | Tensor) -> Tensor:
    """Softmax attention over frames. q, k, v: (n, f, c) with c = HEADS * d; returns (n, f, c).

    motion_scale: an inverse temperature; (f, 1, 1, 1) where each frame that looks has its own.

    The host would take the user's choice (Sage, xformers) or, off NVIDIA, its oldest attention. Those lack these head
    sizes (Comfy-Org/ComfyUI issue 7352) or are slower, so its PyTorch attention is called by name everywhere. The host
    splits batches that overrun a kernel's grid on NVIDIA only, hence the split here. On a CPU in bf16 the plain matrix
    form is faster for few sequences (measured: 3.8 times for 128, 0.7 for 8192).
    """
    n, f, c = q.shape
    if isinstance(motion_scale, Tensor):
        q, motion_scale = q * motion_scale.view(-1, 1).to(q.dtype), 1.0
    scale = temperature(c, motion_scale)
    q, k, v = (t.unflatten(-1, (HEADS, c // HEADS)).transpose(1, 2) for t in (q, k, v))  # (n, heads, f, d)
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or n > MATRIX_FORM_SEQUENCES:
        parts = zip(q.split(SEQUENCES), k.split(SEQUENCES), v.split(SEQUENCES), strict=True)
        out = [attention_pytorch(*part, HEADS, skip_reshape=True, scale=scale) for part in parts]
        return out[0] if len(out) == 1 else torch.cat(out)
    q, k, v = torch.stack((q, k, v)).flatten(1, 2)  # (n * heads, f, d), one copy for all
    weights = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale).softmax(dim=-1)
    return torch.bmm(weights, v).unflatten(0, (n, HEADS)).transpose(1, 2).reshape(n, f, c)


def temperature(channels: int, motion_scale: float) -> float:
    """The factor on queries times keys. Not 0, which CUDA's kernels multiply by the -inf of masked keys."""
    return (channels // HEADS) ** -0.5 * max(motion_scale, 1e-6)


class TemporalAttention(nn.Module):
    """Holds the projections apart, as checkpoints do, until `merge_projections`."""

    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        where: Any = {"dtype": dtype, "device": device}
        self.to_q = operations.Linear(channels, channels, bias=False, **where)
        self.to_k = operations.Linear(channels, channels, bias=False, **where)
        self.to_v = operations.Linear(channels, channels, bias=False, **where)
        self.to_out = nn.ModuleList([operations.Linear(channels, channels, **where)])

    def merge_projections(self, operations: Any) -> None:
        """Replaces to_q, to_k and to_v by one layer `to_qkv` with their weights below one another."""
        layers = (self.to_q, self.to_k, self.to_v)
        channels = layers[0].weight.shape[1]
        self.to_qkv = operations.Linear(channels, 3 * channels, bias=False, device="meta")
        self.to_qkv.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
        keep_model_dtype(self.to_qkv, self.to_q)
        del self.to_q, self.to_k, self.to_v

    def add_to(self, x: Tensor, h: Tensor, motion_scale: float | Tensor) -> Tensor:
        """x + attention(h), both (n, f, c)."""
        q, k, v = self._project(h)
        del h  # the next lines are where a large block holds the most memory
        return linear_add(self.to_out[0], attend(q, k, v, motion_scale), x)

    def _project(self, h: Tensor) -> Sequence[Tensor]:
        if hasattr(self, "to_qkv"):
            return linear(self.to_qkv, h).chunk(3, dim=-1)
        return [linear(layer, h) for layer in (self.to_q, self.to_k, self.to_v)]


class GEGLU(nn.Module):
    """(..., c) to (..., 4c)."""

    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(channels, channels * 8, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Tensor:
        return linear_geglu(self.proj, x)


class FeedForward(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        # Index 1 is the dropout of the training code; it keeps the checkpoint's key `net.2`.
        self.net = nn.Sequential(
            GEGLU(channels, dtype, device, operations),
            nn.Identity(),
            operations.Linear(channels * 4, channels, dtype=dtype, device=device),
        )

    def add_to(self, x: Tensor, h: Tensor, elements: int) -> Tensor:
        """x + feed_forward(h), both (n, f, c). elements: limit of the widest activation; overwrites x to keep it."""
        parts = self.parts(x, elements)
        if parts == 1 or torch.is_grad_enabled():
            return linear_add(self.net[2], self.net[0](h), x)
        with cast_once(cast(GEGLU, self.net[0]).proj, x) as widen, cast_once(self.net[2], x) as narrow:
            for some_x, some_h in zip(x.chunk(parts), h.chunk(parts), strict=True):
                add_linear(narrow, linear_geglu(widen, some_h), some_x)
        return x

    @staticmethod
    def parts(x: Tensor, elements: int) -> int:
        """How many pieces keep the widest activation under its limit."""
        return -(-x.numel() * 8 // max(elements, FEED_FORWARD_ELEMENTS))


class TemporalTransformerBlock(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        where: Any = {"dtype": dtype, "device": device}
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(channels, operations=operations, **where) for _ in range(2)
        )
        self.norms = nn.ModuleList(operations.LayerNorm(channels, **where) for _ in range(2))
        self.ff = FeedForward(channels, operations=operations, **where)
        self.ff_norm = operations.LayerNorm(channels, **where)

    def forward(self, x: Tensor, positions: Tensor, motion_scale: float | Tensor, elements: int) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = cast(TemporalAttention, attention).add_to(x, norm(x).add_(positions), motion_scale)
        return self.ff.add_to(x, self.ff_norm(x), elements)


class BlockRunner(Protocol):
    """Another way to compute a block; may overwrite x."""

    def __call__(
        self,
        block: TemporalTransformerBlock,
        x: Tensor,
        positions: Tensor,
        scale: float | Tensor,
        elements: int,
    ) -> Tensor: ...


class TemporalTransformer(nn.Module):
    """Adds motion to features x of shape (b * f, c, h, w), b clips of f frames; the norm sees each frame alone.

    Note: diffusers normalises across the frames instead, which is not what the weights were trained with.
    """

    positions: Tensor

    def __init__(
        self, channels: int, positions: int, dtype: torch.dtype, device: torch.device, operations: Any
    ) -> None:
        super().__init__()
        where: Any = {"dtype": dtype, "device": device}
        self.norm = operations.GroupNorm(NORM_GROUPS, channels, eps=1e-6, **where)
        self.proj_in = operations.Linear(channels, channels, **where)
        self.transformer_blocks = nn.ModuleList(
            [TemporalTransformerBlock(channels, operations=operations, **where)]
        )
        self.proj_out = operations.Linear(channels, channels, **where)
        self.register_buffer("positions", sinusoidal_positions(positions, channels), persistent=False)

    def forward(
        self,
        x: Tensor,
        frames: int,
        strength: float = 1.0,
        motion_scale: float | Tensor = 1.0,
        elements: int = 0,
        run: BlockRunner = TemporalTransformerBlock.__call__,
    ) -> Tensor:
        """Returns x + strength * (module(x) - x).

        Args:
            frames: frames of each clip in the batch, at most the length of the positions.
            strength: how far the result goes from x to module(x).
            motion_scale: factor on the attention keys, an inverse temperature; or one for each frame, see `attend`.
            elements: of the feed-forward's widest activation, where memory allows more than usual.
            run: how a block is computed.
        """
        motion = self.motion(x, frames, motion_scale, elements, run)
        return x.unflatten(0, (-1, frames)).add(motion, alpha=strength).flatten(0, 1)

    def motion(
        self,
        x: Tensor,
        frames: int,
        motion_scale: float | Tensor,
        elements: int = 0,
        run: BlockRunner = TemporalTransformerBlock.__call__,
    ) -> Tensor:
        """module(x) - x, as (b, f, c, h, w)."""
        positions = comfy.model_management.cast_to_device(self.positions[:, :frames], x.device, x.dtype)
        # "(b f) c h w -> (b h w) f c"
        tokens = self.norm(x).flatten(2).unflatten(0, (-1, frames)).permute(0, 3, 1, 2).flatten(0, 1)
        tokens = linear(self.proj_in, tokens)
        for block in self.transformer_blocks:
            tokens = run(cast(TemporalTransformerBlock, block), tokens, positions, motion_scale, elements)
        height, width = x.shape[2:]
        # "(b h w) f c -> b f c h w"
        return linear(self.proj_out, tokens).unflatten(0, (-1, height, width)).permute(0, 3, 4, 1, 2)

    def place_positions(self, device: torch.device, dtype: torch.dtype) -> None:
        """Keeps the table where and as it is used. The host moves no buffers where it loads a part of the weights."""
        if self.positions.device != device or self.positions.dtype != dtype:
            self.positions = sinusoidal_positions(*self.positions.shape[1:]).to(device, dtype)
