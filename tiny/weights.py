"""Random weights for every part of the family: seeded tensor by tensor, and scaled so that a run stays in range.

Random networks around a pass-through: the VAE keeps a picture's colours at an eighth of its size, and the UNet takes
its input for noise, so that sampling ends near zero instead of far outside the range of latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

import comfy.ops
import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD

from .extension.family import HEADS, LATENT_CHANNELS, UNET, TinyTextEncoder

Weights = dict[str, Tensor]

CHANNELS = tuple(UNET["model_channels"] * m for m in UNET["channel_mult"])
LORA_RANK = 4
LATENT_SCALE = 0.18215  # model latents = raw SD1.5 latents * 0.18215; a TAESD works on model latents
LATENTS_PER_COLOUR = 4.0  # so that colours, spread by about 0.25, become latents spread by about 1
RESIDUAL_ENDS = ("out_layers.3.", "proj_out.", "to_out.0.", "ff.net.2.", "out_proj.", "fc2.", "conv.4.")


def random_tensor(seed: str, shape: torch.Size | tuple[int, ...], std: float) -> Tensor:
    """Normal numbers that depend on nothing but the seed."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big", signed=True)
    return torch.randn(shape, generator=torch.Generator().manual_seed(number)) * std


def random_weights(seed: str, shapes: Mapping[str, torch.Size | tuple[int, ...]]) -> Weights:
    """Norms that change nothing, no biases, and matrices that keep the variance of what passes."""
    weights = {}
    for key, shape in shapes.items():
        if len(shape) < 2:
            weights[key] = torch.full(shape, float(key.endswith("weight")))
        else:
            fan_in = 1 if "embedding" in key else shape[1:].numel()
            gain = 0.2 if any(end in key for end in RESIDUAL_ENDS) else 1.0
            weights[key] = random_tensor(f"{seed}/{key}", shape, gain / fan_in**0.5)
    return weights


def shapes_of(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


# ---- checkpoint


def checkpoint(seed: int) -> Weights:
    """UNet, VAE and text encoder under the names of an SD1.5 checkpoint."""
    return {
        **{f"model.diffusion_model.{key}": value for key, value in unet(f"{seed}/unet").items()},
        **{f"first_stage_model.{key}": value for key, value in vae(f"{seed}/vae").items()},
        **{
            f"cond_stage_model.transformer.{key}": value
            for key, value in text_encoder(f"{seed}/text").items()
        },
    }


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


def vae(seed: str) -> Weights:
    """A TAESD whose first three channels carry the colours through all blocks; the others are random."""
    weights = random_weights(seed, shapes_of(TAESD()))
    colours = torch.arange(3)
    for key, value in weights.items():
        if key.endswith("conv.4.weight"):  # the end of a block's residual branch
            value[:3] = 0
        elif value.ndim == 4 and ".conv." not in key:  # between the blocks: the colours go on, alone
            value[:3] = 0
            value[colours, colours] = _between_blocks(key)
    weights["taesd_encoder.14.weight"] *= LATENTS_PER_COLOUR
    weights["taesd_encoder.14.weight"][3] = weights["taesd_encoder.14.weight"][:3].mean(dim=0)
    weights["taesd_encoder.14.bias"][:] = -0.5 * LATENTS_PER_COLOUR
    weights["taesd_decoder.1.weight"] /= LATENTS_PER_COLOUR
    weights["taesd_decoder.1.bias"][:3] = 0.5
    weights["vae_scale"], weights["vae_shift"] = torch.tensor(LATENT_SCALE), torch.tensor(0.0)
    return weights


def _between_blocks(key: str) -> Tensor:
    """3x3 taps of one colour: the mean of 2x2 pixels going down, smoothing after going up, else only the middle."""
    side = {
        "taesd_encoder.2": (0.0, 0.5, 0.5),
        "taesd_encoder.6": (0.0, 0.5, 0.5),
        "taesd_encoder.10": (0.0, 0.5, 0.5),
        "taesd_decoder.7": (0.25, 0.5, 0.25),
        "taesd_decoder.12": (0.25, 0.5, 0.25),
        "taesd_decoder.17": (0.25, 0.5, 0.25),
    }.get(key.removesuffix(".weight"), (0.0, 1.0, 0.0))
    return torch.outer(torch.tensor(side), torch.tensor(side))


# ---- motion


def motion_places() -> dict[str, int]:
    """The 21 places of a v2 motion module and their channels, as in SD1.5."""
    places = {}
    for level, width in enumerate(CHANNELS):
        places |= {f"down_blocks.{level}.motion_modules.{i}": width for i in range(2)}
        places |= {f"up_blocks.{len(CHANNELS) - 1 - level}.motion_modules.{i}": width for i in range(3)}
    return places | {"mid_block.motion_modules.0": CHANNELS[-1]}


def temporal_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """One temporal transformer of the original layout (guoyww/AnimateDiff), without its position tables."""
    block = "transformer_blocks.0."
    shapes = {f"{name}.{part}": (width,) for name in ("norm",) for part in ("weight", "bias")}
    for name, (rows, columns) in {
        "proj_in": (width, width),
        "proj_out": (width, width),
        f"{block}ff.net.0.proj": (8 * width, width),
        f"{block}ff.net.2": (width, 4 * width),
        f"{block}attention_blocks.0.to_out.0": (width, width),
        f"{block}attention_blocks.1.to_out.0": (width, width),
    }.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name in ("norms.0", "norms.1", "ff_norm"):
        shapes |= {f"{block}{name}.{part}": (width,) for part in ("weight", "bias")}
    for attention in range(2):
        shapes |= {f"{block}attention_blocks.{attention}.to_{p}.weight": (width, width) for p in "qkv"}
    return shapes


def motion_module(seed: str, positions: int | None) -> Weights:
    """A v2 type motion module.

    Args:
        positions: length of the position tables, or None for a file without them, as AnimateLCM's.
    """
    shapes: dict[str, torch.Size] = {}
    tables: Weights = {}
    for place, width in motion_places().items():
        name = f"{place}.temporal_transformer."
        shapes |= {name + key: torch.Size(shape) for key, shape in temporal_shapes(width).items()}
        for attention in range(2 if positions else 0):
            key = f"{name}transformer_blocks.0.attention_blocks.{attention}.pos_encoder.pe"
            tables[key] = position_table(positions, width)
    return random_weights(seed, shapes) | tables


def position_table(positions: int, width: int) -> Tensor:
    """(1, positions, width): sines on even channels, cosines on odd ones, base 10000."""
    angles = torch.arange(positions)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(1, positions, width)


# ---- LoRAs


def motion_lora(seed: str) -> Weights:
    """Low-rank changes to every attention of a v2 motion module, under the original names; no alpha, as there."""
    return {
        key: value
        for place, width in motion_places().items()
        for attention in range(2)
        for part in ("q", "k", "v", "out")
        for key, value in _low_rank(
            seed,
            f"{place}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}"
            f".processor.to_{part}_lora.",
            torch.Size((width, width)),
            strength=0.5,
        )
    }


def unet_lora(seed: str) -> Weights:
    """Low-rank changes to the UNet's blocks under kohya's names, with alpha, as LCM-LoRA's."""
    shapes = unet_shapes()
    weights: Weights = {}
    for name, key in comfy.utils.unet_to_diffusers(UNET).items():
        inside = ".attentions." in name or ".resnets." in name
        if not inside or len(shapes.get(key, ())) < 2:
            continue
        prefix = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        weights |= dict(_low_rank(seed, f"{prefix}.lora_", shapes[key], strength=0.1))
        weights[f"{prefix}.alpha"] = torch.tensor(float(LORA_RANK))
    return weights


def _low_rank(seed: str, prefix: str, shape: torch.Size, strength: float) -> Iterator[tuple[str, Tensor]]:
    """Down and up, whose product is `strength` times as large as a random weight of that shape."""
    down = torch.Size((LORA_RANK, *shape[1:]))
    up = torch.Size((shape[0], LORA_RANK, *(1 for _ in shape[2:])))
    yield f"{prefix}down.weight", random_tensor(f"{seed}/{prefix}down", down, down[1:].numel() ** -0.5)
    yield f"{prefix}up.weight", random_tensor(f"{seed}/{prefix}up", up, strength * LORA_RANK**-0.5)
