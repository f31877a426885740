"""The temporal transformer of AnimateDiff: attention over the frames of each pixel.

Paper: Guo et al. 2023, arXiv 2307.04725. Reference: guoyww/AnimateDiff, animatediff/models/motion_module.py.
Attribute names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import comfy.model_management
from comfy.ldm.modules.attention import attention_pytorch

HEADS = 8
NORM_GROUPS = 32
# Largest GEGLU activation in elements; the feed-forward splits its tokens to stay under it.
FEED_FORWARD_ELEMENTS = 2**26


def sinusoidal_positions(length: int, channels: int) -> Tensor:
    """Positions of Vaswani et al. 2017, sine on even and cosine on odd channels: (1, length, channels), fp32."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(10000.0) / channels))
    table = torch.zeros(1, length, channels)
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)
    return table


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over frames. q, k, v: (n, f, c) with c = HEADS * d; returns (n, f, c).

    On a CPU the plain matrix form is the faster one for sequences this short (measured 1.6 to 1.9 times).
    Elsewhere the host's PyTorch attention is called by name: it splits batches that overrun a kernel's grid,
    and the user's choice of Sage or another kernel must not apply, as those lack these head sizes
    (Comfy-Org/ComfyUI issue 7352).
    """
    n, f, c = q.shape
    q, k, v = (t.view(n, f, HEADS, c // HEADS).transpose(1, 2) for t in (q, k, v))  # (n, heads, f, d)
    if q.device.type != "cpu":
        return attention_pytorch(q, k, v, HEADS, skip_reshape=True)
    weights = torch.matmul(q * (c // HEADS) ** -0.5, k.transpose(-1, -2)).softmax(dim=-1)
    return torch.matmul(weights, v).transpose(1, 2).reshape(n, f, c)


class TemporalAttention(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        where = {"dtype": dtype, "device": device}
        self.to_q = operations.Linear(channels, channels, bias=False, **where)
        self.to_k = operations.Linear(channels, channels, bias=False, **where)
        self.to_v = operations.Linear(channels, channels, bias=False, **where)
        self.to_out = nn.ModuleList([operations.Linear(channels, channels, **where)])

    def forward(self, x: Tensor, motion_scale: float) -> Tensor:
        k = self.to_k(x)
        if motion_scale != 1.0:
            k = k * motion_scale
        return self.to_out[0](attend(self.to_q(x), k, self.to_v(x)))


class GatedProjection(nn.Module):
    """GEGLU: (..., c) to (..., 4c)."""

    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(channels, channels * 8, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        project = GatedProjection(channels, dtype, device, operations)
        # Index 1 is the dropout of the training code; it keeps the checkpoint's key `net.2`.
        self.net = nn.Sequential(
            project, nn.Identity(), operations.Linear(channels * 4, channels, dtype=dtype, device=device)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = -(-x.numel() * 8 // FEED_FORWARD_ELEMENTS)
        if parts <= 1:
            return self.net(x)
        return torch.cat([self.net(part) for part in x.chunk(parts)])


class TemporalTransformerBlock(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        where = {"dtype": dtype, "device": device}
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(channels, operations=operations, **where) for _ in range(2)
        )
        self.norms = nn.ModuleList(operations.LayerNorm(channels, **where) for _ in range(2))
        self.ff = FeedForward(channels, operations=operations, **where)
        self.ff_norm = operations.LayerNorm(channels, **where)

    def forward(self, x: Tensor, positions: Tensor, motion_scale: float) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attention(norm(x) + positions, motion_scale)
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(nn.Module):
    """Adds motion to features x of shape (b * f, c, h, w), b clips of f frames; the norm sees each frame alone.

    Note: diffusers normalises across the frames instead, which is not what the weights were trained with.
    """

    def __init__(
        self, channels: int, positions: int, dtype: torch.dtype, device: torch.device, operations: Any
    ) -> None:
        super().__init__()
        where = {"dtype": dtype, "device": device}
        self.norm = operations.GroupNorm(NORM_GROUPS, channels, eps=1e-6, **where)
        self.proj_in = operations.Linear(channels, channels, **where)
        self.transformer_blocks = nn.ModuleList(
            [TemporalTransformerBlock(channels, operations=operations, **where)]
        )
        self.proj_out = operations.Linear(channels, channels, **where)
        self.register_buffer("positions", sinusoidal_positions(positions, channels), persistent=False)

    def forward(
        self, x: Tensor, frames: int, strength: Tensor | float = 1.0, motion_scale: float = 1.0
    ) -> Tensor:
        """Returns x + strength * (module(x) - x).

        Args:
            frames: frames of each clip in the batch, at most the length of the positions.
            strength: a number, or a 0-d tensor where it changes from step to step.
            motion_scale: factor on the attention keys, an inverse temperature.
        """
        residual = self.residual(x, frames, motion_scale)
        if isinstance(strength, float) and strength == 1.0:
            return x + residual
        return x + residual * strength

    def residual(self, x: Tensor, frames: int, motion_scale: float) -> Tensor:
        bf, c, h, w = x.shape
        b = bf // frames
        # Under low VRAM the host may leave the table behind on the CPU.
        positions = comfy.model_management.cast_to_device(self.positions[:, :frames], x.device, x.dtype)
        tokens = self.norm(x).reshape(b, frames, c, h * w).permute(0, 3, 1, 2).reshape(b * h * w, frames, c)
        tokens = self.proj_in(tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, positions, motion_scale)
        tokens = self.proj_out(tokens)
        return tokens.view(b, h * w, frames, c).permute(0, 2, 3, 1).reshape(bf, c, h, w)
