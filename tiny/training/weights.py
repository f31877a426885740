"""What training starts from, and how weights are written.

The first weights are random, seeded tensor by tensor, and scaled so that activations stay in range.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import comfy.ops
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ..extension.family import HEADS, LATENT_CHANNELS, UNET, TinyTextEncoder
from ..shipped import Weights

CHANNELS = tuple(UNET["model_channels"] * m for m in UNET["channel_mult"])
LATENT_SCALE = 0.18215  # model latents = raw SD1.5 latents * 0.18215; a TAESD works on model latents
RESIDUAL_ENDS = ("out_layers.3.", "proj_out.", "to_out.0.", "ff.net.2.", "out_proj.", "fc2.", "conv.4.")


def random_tensor(seed: str, shape: torch.Size | tuple[int, ...], std: float) -> Tensor:
    """Normally distributed numbers that depend on nothing but the seed."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big", signed=True)
    return torch.randn(shape, generator=torch.Generator().manual_seed(number)) * std


def random_weights(seed: str, shapes: Mapping[str, torch.Size | tuple[int, ...]]) -> Weights:
    """Norms that change nothing, no biases, and matrices that preserve the variance."""
    weights = {}
    for key, shape in shapes.items():
        if len(shape) < 2:
            weights[key] = torch.full(shape, float(key.endswith("weight")))
        else:
            fan_in = 1 if "embedding" in key else math.prod(shape[1:])
            gain = 0.2 if any(end in key for end in RESIDUAL_ENDS) else 1.0
            weights[key] = random_tensor(f"{seed}/{key}", shape, gain / fan_in**0.5)
    return weights


def shapes_of(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


# ---- UNet and text encoder


def text_encoder(seed: str) -> Weights:
    return random_weights(seed, shapes_of(TinyTextEncoder(device="meta").transformer))


def unet_shapes() -> dict[str, torch.Size]:
    return shapes_of(UNetModel(**UNET, **HEADS, device="meta", operations=comfy.ops.disable_weight_init))


def unet(seed: str) -> Weights:
    """A random UNet whose first skip carries the input to the end, past everything between.

    The last norm has groups of two channels. A group of x and -x comes out as x / rms(x), and through SiLU the
    difference of the two is exactly that: what unit noise looks like.
    """
    weights = random_weights(seed, unet_shapes())
    width = UNET["model_channels"]
    first, skip, last = (
        weights[f"{name}.weight"]
        for name in ("input_blocks.0.0", "output_blocks.11.0.skip_connection", "out.2")
    )
    first[:LATENT_CHANNELS] = 0
    skip[: 2 * LATENT_CHANNELS] = 0
    last *= 0.1
    for channel in range(LATENT_CHANNELS):
        first[channel, channel, 1, 1] = 1
        for place, sign in ((2 * channel, 1), (2 * channel + 1, -1)):
            skip[place, width + channel] = sign
            last[channel, place, 1, 1] = 0.97 * sign
    return weights


# ---- motion


def motion_places() -> dict[str, int]:
    """The 21 places of a v2 motion module and their channels, as in SD1.5."""
    places: dict[str, int] = {}
    for level, width in enumerate(CHANNELS):
        places |= {f"down_blocks.{level}.motion_modules.{i}": width for i in range(2)}
        places |= {f"up_blocks.{len(CHANNELS) - 1 - level}.motion_modules.{i}": width for i in range(3)}
    return places | {"mid_block.motion_modules.0": CHANNELS[-1]}


def position_table(positions: int, width: int) -> Tensor:
    """(1, positions, width): sines on even channels, cosines on odd ones, base 10000."""
    angles = torch.arange(positions)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(1, positions, width)


def save_whole(weights: Weights, path: Path, metadata: dict[str, str] | None = None) -> None:
    """The name appears when the file is complete."""
    partial = path.with_suffix(".partial")
    save_file({key: value.detach().contiguous() for key, value in weights.items()}, partial, metadata)
    os.replace(partial, path)
