"""Writes the tiny family's model files under the names that the workflows ask for: `python tiny/make.py --out DIR`.

Seeded random stand-ins. DIR is a ComfyUI models folder; files that are no stand-ins are never replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import pickletools
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:
    from by_path import as_package

    __package__ = as_package()

from .host import use_host

if TYPE_CHECKING:
    from .weights import Weights

CHECKPOINT = "checkpoints/v1-5-pruned-emaonly-fp16.safetensors"
MOTION_MODULE = "animatediff_models/mm_sd15_v2.safetensors"
TURBO_MODULE = "animatediff_models/mm_sd15_AnimateLCM.safetensors"
TURBO_LORA = "loras/AnimateLCM_sd15_t2v_lora.safetensors"
CAMERA_MOVES = (
    "ZoomIn",
    "ZoomOut",
    "PanLeft",
    "PanRight",
    "TiltUp",
    "TiltDown",
    "RollingClockwise",
    "RollingAnticlockwise",
)
MOTION_LORAS = tuple(f"animatediff_motion_lora/v2_lora_{move}.ckpt" for move in CAMERA_MOVES)
FILES = (CHECKPOINT, MOTION_MODULE, TURBO_MODULE, TURBO_LORA, *MOTION_LORAS)

MARK = "fast_animatediff"
RECIPE = 1  # counts the changes to the weights, so that older stand-ins are made anew


def stand_in_text(seed: int) -> str:
    return f"tiny stand-in, random weights, seed {seed}, recipe {RECIPE}"


def make_models(models: Path, seed: int = 0) -> list[Path]:
    """Writes the files that are missing or older in a models folder; returns those written.

    Errors: FileExistsError, before anything is written, where a name is taken by something else.
    """
    wanted = [name for name in FILES if read_mark(models / name) != stand_in_text(seed)]
    for name in wanted:
        if (models / name).exists() and not read_mark(models / name).startswith("tiny "):
            raise FileExistsError(
                f"{models / name} is there already and is no tiny stand-in. Choose another folder with --out."
            )
    if not wanted:
        return []
    use_host()
    return [write(models / name, weights, seed) for name, weights in build(wanted, seed)]


def build(names: list[str], seed: int) -> Iterator[tuple[str, Weights]]:
    """Makes the weights of the named files, one file at a time."""
    from . import weights  # brings torch and the host, which a call with nothing to do can be without

    for name in names:
        if name == CHECKPOINT:
            yield name, weights.checkpoint(seed)
        elif name == TURBO_LORA:
            yield name, weights.unet_lora(f"{seed}/{name}")
        elif name in MOTION_LORAS:
            yield name, weights.motion_lora(f"{seed}/{name}")
        else:
            positions = None if name == TURBO_MODULE else 32
            yield name, weights.motion_module(f"{seed}/{name}", positions)


def write(path: Path, weights: Weights, seed: int) -> Path:
    """Writes fp16 safetensors, or a .ckpt where the published file is one; the name appears when it is complete."""
    import safetensors.torch
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    half = {key: value.half().contiguous() for key, value in weights.items()}
    if path.suffix == ".ckpt":
        torch.save({MARK: stand_in_text(seed), "state_dict": half}, partial)
    else:
        safetensors.torch.save_file(half, partial, metadata={MARK: stand_in_text(seed)})
    os.replace(partial, path)
    return path


def read_mark(path: Path) -> str:
    """What a weights file says about being a stand-in; empty where it says nothing or is no such file."""
    if not path.is_file():
        return ""
    return _mark_of_ckpt(path) if zipfile.is_zipfile(path) else _mark_of_safetensors(path)


def _mark_of_safetensors(path: Path) -> str:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > 10_000_000:
            return ""
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return ""
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return (metadata or {}).get(MARK, "")


def _mark_of_ckpt(path: Path) -> str:
    """Reads the strings of the pickle without running it, and without torch, which takes a second to import."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("/data.pkl"):
                strings = [
                    value for _, value, _ in pickletools.genops(archive.read(name)) if isinstance(value, str)
                ]
                return strings[strings.index(MARK) + 1] if MARK in strings else ""
    return ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a ComfyUI models folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        written = make_models(options.out, options.seed)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    for path in written:
        print(f"  {path.relative_to(options.out)}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
