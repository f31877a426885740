"""Writes what was trained into `trained/`, fp16, as the repository ships it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .camera_training import FILE as MOTION
from .camera_training import lora_file
from .image_training import PLACES_FILE, TEXT, UNET_PREFIX
from .motions import CAMERA_RATES
from .shipped import (
    CHECKPOINT,
    FOLDER,
    MARK,
    MOTION_MODULE,
    SHIPPED,
    TURBO_LORA,
    TURBO_MODULE,
    pack,
)
from .turbo_training import LORA_FILE, MODULE_FILE
from .vae_training import FAST
from .vae_training import FILE as VAE
from .weights import Weights, motion_places, position_table

POSITIONS = 32
# What names in an SD1.5 checkpoint begin with, by how training calls the part.
PREFIXES = {UNET_PREFIX: "model.diffusion_model.", TEXT: "cond_stage_model.transformer."}
VAE_PREFIX = "first_stage_model."


def export(training: Path, seed: int, folder: Path = FOLDER) -> list[Path]:
    """Writes the shipped files and the logs; returns the files' paths.

    Errors: FileNotFoundError where a stage was not trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    try:
        found = list(files(training))  # all of them, before the first is written
    except FileNotFoundError as error:
        missing = Path(str(error.filename or error)).name
        raise FileNotFoundError(f"{missing} is missing in {training.name}: train its stage first.") from error
    for name, weights in found:
        packed = {key: half(value) for key, value in pack(weights).items()}
        path = folder / name
        partial = path.with_suffix(".partial")
        mark = seed_mark(seed) + digest(packed)
        save_file(packed, partial, metadata={MARK: mark})
        os.replace(partial, path)
        written.append(path)
    (folder / "logs").mkdir(exist_ok=True)
    for log in training.glob("*.jsonl"):
        shutil.copy(log, folder / "logs")
    return written


def seed_mark(seed: int) -> str:
    """What the mark of a file begins with."""
    return f"tiny family, trained with seed {seed}, "


def half(value: Tensor) -> Tensor:
    return value.half().contiguous() if value.is_floating_point() else value.contiguous()


def digest(weights: Weights) -> str:
    """Twelve digits that change with the weights."""
    found = hashlib.sha256()
    for key in sorted(weights):
        found.update(key.encode() + weights[key].numpy().tobytes())
    return found.hexdigest()[:12]


def files(training: Path) -> Iterator[tuple[str, Weights]]:
    """Names in `trained/`, and the weights of those files."""
    yield SHIPPED[CHECKPOINT], checkpoint(load_file(training / VAE), load_file(training / PLACES_FILE))
    yield SHIPPED[MOTION_MODULE], load_file(training / MOTION) | position_tables()
    yield SHIPPED[TURBO_MODULE], load_file(training / MODULE_FILE)  # AnimateLCM's has no position tables
    yield SHIPPED[TURBO_LORA], load_file(training / LORA_FILE)
    for axis in CAMERA_RATES:
        yield f"motion_lora_{axis}.safetensors", load_file(training / lora_file(axis))


def checkpoint(vae: Weights, images: Weights) -> Weights:
    """Under the names of an SD1.5 checkpoint."""
    unet, text = (under(images, short, prefix) for short, prefix in PREFIXES.items())
    return unet | text | {VAE_PREFIX + key: value for key, value in vae.items() if not key.startswith(FAST)}


def under(weights: Weights, prefix: str, instead: str) -> Weights:
    """Those whose names begin with a prefix, with something else in its place."""
    return {
        instead + key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
    }


def position_tables() -> Weights:
    return {
        f"{place}.temporal_transformer.transformer_blocks.0.attention_blocks.{i}.pos_encoder.pe": position_table(
            POSITIONS, width
        ).to(torch.float32)
        for place, width in motion_places().items()
        for i in range(2)
    }
