"""Random weights of the published layouts, the same for every contender: an SD1.5 checkpoint and a v2 motion module.

About unit gain everywhere and no zero layers, so that nothing vanishes, overflows or is skipped. fp16 with position tables in fp32.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from .host import CHECKPOINT, MOTION_MODULE, UNET_PREFIX, VAE_PREFIX, unet_config, vae_config
from .jobs import Size

GAIN = 0.7
POSITIONS = 32
MARK, RECIPE = "fast_animatediff_benchmark", "1"  # counts the changes to the weights

Shapes = Mapping[str, torch.Size]


def make_weights(folder: Path, size: Size) -> None:
    """Writes the files of a size where they are missing or older; needs the host on the path."""
    folder.mkdir(parents=True, exist_ok=True)
    if not is_made(folder / CHECKPOINT):
        write(folder / CHECKPOINT, random_weights(checkpoint_shapes(size)))
    if not is_made(folder / MOTION_MODULE):
        write(folder / MOTION_MODULE, random_weights(motion_shapes(size)) | position_tables(size))


FAMILIES = {
    "v2": MOTION_MODULE,
    "v1": "mm_sd_v14.safetensors",
    "v3": "v3_sd15_mm.safetensors",
    "AnimateLCM": "AnimateLCM_sd15_t2v.safetensors",
}


def make_families(folder: Path) -> dict[str, Path]:
    """A file of each family, made of the v2 module's weights: without mid block, with 24 positions, without tables."""
    v2 = read(folder / MOTION_MODULE)
    outer = {key: value for key, value in v2.items() if not key.startswith("mid_block")}
    of_v1 = {
        key: value[:, :24].contiguous() if key.endswith(".pe") else value for key, value in outer.items()
    }
    of_lcm = {key: value for key, value in v2.items() if not key.endswith(".pe")}
    for family, weights in {"v1": of_v1, "v3": outer, "AnimateLCM": of_lcm}.items():
        if not is_made(folder / FAMILIES[family]):
            write(folder / FAMILIES[family], weights)
    return {family: folder / name for family, name in FAMILIES.items()}


def is_made(path: Path) -> bool:
    if not path.is_file():
        return False
    with safetensors.safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(MARK) == RECIPE


def write(path: Path, weights: dict[str, Tensor]) -> None:
    partial = path.with_suffix(".partial")
    safetensors.torch.save_file(weights, partial, metadata={MARK: RECIPE})
    os.replace(partial, path)


def random_weights(shapes: Shapes) -> dict[str, Tensor]:
    return {key: random_tensor(key, shape) for key, shape in shapes.items()}


def random_tensor(key: str, shape: torch.Size) -> Tensor:
    """Depends on its name and shape only. Vectors named weight belong to norms and are near 1, biases are near 0."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(number))
    if len(shape) > 1:
        return (values * (GAIN / shape[1:].numel() ** 0.5)).half()
    return (values * 0.1 + (1.0 if key.endswith("weight") else 0.0)).half()


def checkpoint_shapes(size: Size) -> dict[str, torch.Size]:
    import comfy.ops
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    with torch.device("meta"):
        vae = AutoencoderKL(**vae_config(size))
    unet = UNetModel(**unet_config(size), device="meta", operations=comfy.ops.disable_weight_init)
    return {
        **{UNET_PREFIX + key: value.shape for key, value in unet.state_dict().items()},
        **{VAE_PREFIX + key: value.shape for key, value in vae.state_dict().items()},
    }


def motion_places(size: Size) -> dict[str, int]:
    """The 21 places of a v2 motion module, in the original layout's names, and their channels."""
    places = {f"down_blocks.{n}.motion_modules.{i}": c for n, c in enumerate(size.channels) for i in range(2)}
    up = enumerate(reversed(size.channels))
    places |= {f"up_blocks.{n}.motion_modules.{i}": c for n, c in up for i in range(3)}
    return places | {"mid_block.motion_modules.0": size.channels[-1]}


def motion_shapes(size: Size) -> dict[str, torch.Size]:
    """guoyww/AnimateDiff, motion_module.py, without the position tables."""
    block = "transformer_blocks.0."
    shapes = {}
    for place, c in motion_places(size).items():
        linear = {"proj_in": (c, c), "proj_out": (c, c), f"{block}ff.net.0.proj": (8 * c, c)}
        linear |= {f"{block}ff.net.2": (c, 4 * c)}
        linear |= {f"{block}attention_blocks.{a}.to_out.0": (c, c) for a in range(2)}
        shapes_here = {f"{name}.weight": shape for name, shape in linear.items()}
        shapes_here |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
        shapes_here |= {f"{block}attention_blocks.{a}.to_{p}.weight": (c, c) for a in range(2) for p in "qkv"}
        norms = ("norm", f"{block}norms.0", f"{block}norms.1", f"{block}ff_norm")
        shapes_here |= {f"{name}.{part}": (c,) for name in norms for part in ("weight", "bias")}
        shapes |= {f"{place}.temporal_transformer.{key}": torch.Size(s) for key, s in shapes_here.items()}
    return shapes


def position_tables(size: Size) -> dict[str, Tensor]:
    return {
        f"{place}.temporal_transformer.transformer_blocks.0.attention_blocks.{a}.pos_encoder.pe": positions(c)
        for place, c in motion_places(size).items()
        for a in range(2)
    }


def positions(channels: int) -> Tensor:
    """(1, 32, channels): sines on even channels, cosines on odd ones, base 10000."""
    angles = torch.arange(POSITIONS)[:, None] / 10000 ** (torch.arange(0, channels, 2) / channels)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(1, POSITIONS, channels)


def read(path: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(path)


def describe(folder: Path) -> str:
    """Parameters of the two files, for the report."""
    counts = {}
    for name in (CHECKPOINT, MOTION_MODULE):
        with (folder / name).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        counts[name] = sum(
            torch.Size(entry["shape"]).numel() for key, entry in header.items() if key != "__metadata__"
        )
    return ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in counts.items())
