"""Writes what was trained into `trained/`, fp16, as the repository ships it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..domain.motions import CAMERA_RATES
from ..shipped import (
    CHECKPOINT,
    EDGE_CONTROLNET,
    FOLDER,
    MARK,
    MOTION_MODULE,
    SHIPPED,
    TURBO_LORA,
    TURBO_MODULE,
    Weights,
    pack,
)
from .cameras import GAIN, lora_file
from .edges import FILE as EDGES
from .edits import FILE as MOTION
from .edits import EditStage
from .images import PLACES_FILE, TEXT, UNET_PREFIX
from .rolls import AXIS as ROLL
from .rolls import RollStage
from .turbo import LORA_FILE, MODULE_FILE
from .vae import FAST
from .vae import FILE as VAE
from .weights import motion_places, position_table, save_whole

POSITIONS = 32
# What names in an SD1.5 checkpoint begin with, by how training calls the part.
PREFIXES = {UNET_PREFIX: "model.diffusion_model.", TEXT: "cond_stage_model.transformer."}
VAE_PREFIX = "first_stage_model."
LORAS = {
    f"motion_lora_{axis}.safetensors": RollStage.file if axis == ROLL else lora_file(EditStage.name, axis)
    for axis in CAMERA_RATES
}
# What each file of `trained/` but the checkpoint is made of: a file in a training's folder.
TRAINED = {
    SHIPPED[MOTION_MODULE]: MOTION,
    SHIPPED[TURBO_MODULE]: MODULE_FILE,
    SHIPPED[TURBO_LORA]: LORA_FILE,
    SHIPPED[EDGE_CONTROLNET]: EDGES,
} | LORAS
LOG_LINES = 200


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
        save_whole(packed, path, {MARK: seed_mark(seed) + digest(packed)})
        written.append(path)
    (folder / "logs").mkdir(exist_ok=True)
    for log in training.glob("*.jsonl"):
        (folder / "logs" / log.name).write_text(thinned(log.read_text(encoding="utf-8")), encoding="utf-8")
    return written


def thinned(log: str) -> str:
    """Every n-th line, up to the last, so that there are LOG_LINES at most."""
    lines = log.splitlines(keepends=True)
    return "".join(lines[:: -math.ceil(len(lines) / LOG_LINES) or -1][::-1])


def seed_mark(seed: int) -> str:
    """What the mark of a file begins with."""
    return f"tiny family, trained with seed {seed}, "


def half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def digest(weights: Weights) -> str:
    """Twelve digits that change with the weights."""
    found = hashlib.sha256()
    for key in sorted(weights):
        found.update(key.encode() + weights[key].numpy().tobytes())
    return found.hexdigest()[:12]


def files(training: Path) -> Iterator[tuple[str, Weights]]:
    """Names in `trained/`, and the weights of those files."""
    yield SHIPPED[CHECKPOINT], checkpoint(load_file(training / VAE), load_file(training / PLACES_FILE))
    for name, trained in TRAINED.items():
        weights = load_file(training / trained)
        if trained == MOTION:
            weights |= position_tables()
        yield name, with_gain(weights, GAIN) if name in LORAS else weights


def with_gain(lora: Weights, gain: float) -> Weights:
    """A motion LoRA whose strength 1 is that strength."""
    return {key: gain * value if ".up." in key else value for key, value in lora.items()}


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
