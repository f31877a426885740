"""Independent, plain versions of what the engine computes: written from the papers' equations, in fp32, one step at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def positions(length: int, channels: int) -> Tensor:
    table = torch.zeros(length, channels)
    for p in range(length):
        for i in range(0, channels, 2):
            angle = p / 10000 ** (i / channels)
            table[p, i], table[p, i + 1] = math.sin(angle), math.cos(angle)
    return table


def linear(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"]
        + w[f"{name}.bias"]
    )


def group_norm_of_one_frame(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    c, h, width = x.shape
    groups = x.reshape(32, -1)
    centred = groups - groups.mean(1, keepdim=True)
    normal = (centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()).reshape(c, h, width)
    return normal * w["norm.weight"][:, None, None] + w["norm.bias"][:, None, None]


def temporal_transformer(
    x: Tensor, w: dict[str, Tensor], heads: int = 8, motion_scale: float = 1.0
) -> Tensor:
    """x: (f, c, h, w), one clip. w: the weights of one `temporal_transformer`, without that prefix."""
    f, c, height, width = x.shape
    frames = torch.stack([group_norm_of_one_frame(frame, w) for frame in x])
    out = torch.empty_like(x)
    for row in range(height):
        for column in range(width):
            t = linear(frames[:, :, row, column], w, "proj_in")  # (f, c)
            for n in range(2):
                block = "transformer_blocks.0"
                h = layer_norm(t, w, f"{block}.norms.{n}") + positions(f, c)
                q, k, v = (linear(h, w, f"{block}.attention_blocks.{n}.to_{p}") for p in "qkv")
                heads_out = []
                for head in range(heads):
                    part = slice(head * c // heads, (head + 1) * c // heads)
                    scores = q[:, part] @ (k[:, part] * motion_scale).T / math.sqrt(c // heads)
                    heads_out.append(torch.softmax(scores, dim=-1) @ v[:, part])
                t = t + linear(torch.cat(heads_out, dim=-1), w, f"{block}.attention_blocks.{n}.to_out.0")
            value, gate = linear(layer_norm(t, w, f"{block}.ff_norm"), w, f"{block}.ff.net.0.proj").chunk(
                2, dim=-1
            )
            gelu = 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2)))
            t = t + linear(value * gelu, w, f"{block}.ff.net.2")
            out[:, :, row, column] = x[:, :, row, column] + linear(t, w, "proj_out")
    return out
