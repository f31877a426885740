"""Writes from `trained/` what the stages of training wrote, so that a later one can be trained without those before it.

The result is `export`'s input: exported again, the files are the same. The fast encoder is not shipped: it is trained
again, in minutes, to do what TAESD's encoder does.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from comfy.taesd.taesd import TAESD

from ..domain.motions import CAMERA_RATES
from ..shipped import CHECKPOINT, FOLDER, MARK, SHIPPED, Weights, read_metadata, unpack
from .cameras import FILE as MOTION_OF_CAMERAS
from .cameras import GAIN, CameraStage, lora_file
from .data import picture_batch
from .edits import FILE as MOTION
from .edits import EditStage
from .export import (
    LORAS,
    PREFIXES,
    TRAINED,
    VAE_PREFIX,
    position_tables,
    seed_mark,
    under,
    with_gain,
)
from .images import PLACES_FILE
from .networks import PatchEncoder
from .vae import FAST
from .vae import FILE as VAE
from .weights import random_weights, save_whole, shapes_of

STEPS, BATCH, LEARNING_RATE = 1200, 32, 2e-3


def restore(training: Path, seed: int, size: int, device: torch.device, steps: int = STEPS) -> list[Path]:
    """Writes what the stages vae, places, cameras, edits, rolls and turbo write; returns the files' paths.

    The motion module is that of edits and the LoRAs are the shipped ones, for cameras too: edits and rolls thus continue
    from their own results.

    Args:
        steps: of the fast encoder.
    Errors: before anything is written, FileExistsError where the folder has one of the files, ValueError where the
        shipped weights are of another seed.
    """
    mark = read_metadata(FOLDER / SHIPPED[CHECKPOINT])[MARK]
    if not mark.startswith(seed_mark(seed)):
        raise ValueError(
            f"The shipped weights are of another seed than {seed}, '{mark}': give that with --seed."
        )
    files = shipped_files()
    for name in files:
        if (training / name).exists():
            raise FileExistsError(
                f"{training.name} has a {name} already, of a training of its own: choose another folder with --out."
            )
    fast = imitate(files[VAE], seed, size, device, steps)
    files[VAE] |= {FAST + key: value for key, value in fast.state_dict().items()}
    for name, weights in files.items():
        save_whole(weights, training / name)
    return [training / name for name in files]


def shipped_files() -> dict[str, Weights]:
    """By the names that the stages give them; without the fast encoder."""
    whole, tables = in_fp32(SHIPPED[CHECKPOINT]), position_tables()
    unet, text = (under(whole, prefix, short) for short, prefix in PREFIXES.items())
    files = {VAE: under(whole, VAE_PREFIX, ""), PLACES_FILE: unet | text}
    for name, trained in TRAINED.items():
        weights = {key: value for key, value in in_fp32(name).items() if key not in tables}
        files[trained] = with_gain(weights, 1 / GAIN) if name in LORAS else weights
    files[MOTION_OF_CAMERAS] = files[MOTION]
    for axis, trained in zip(CAMERA_RATES, LORAS.values(), strict=True):
        files |= {lora_file(stage.name, axis): files[trained] for stage in (CameraStage, EditStage)}
    return files


def in_fp32(name: str) -> Weights:
    """A file of `trained/` as it was before it was packed."""
    weights = unpack(load_file(FOLDER / name))
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


def imitate(weights: Weights, seed: int, size: int, device: torch.device, steps: int) -> PatchEncoder:
    """A fast encoder that gives the latents of a TAESD's own. After as many pictures the squared error was 0.007."""
    vae, fast = TAESD(), PatchEncoder()
    vae.load_state_dict(weights)
    fast.load_state_dict(random_weights(f"{seed}/fast", shapes_of(fast)))
    encoder = vae.taesd_encoder.to(device, memory_format=torch.channels_last).requires_grad_(False)
    fast.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(fast.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    for step in range(steps):
        pictures, _ = picture_batch(seed, "restore", step, BATCH, size, device)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            error = F.mse_loss(fast(pictures).float(), encoder(pictures).float())
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"  fast encoder {step + 1}/{steps}  squared error {error.item():.4f}", flush=True)
    return fast.requires_grad_(False)
