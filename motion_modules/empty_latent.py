"""The latent of an empty clip, refused where memory does not suffice: the system would end ComfyUI without a word."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import comfy.model_management

LATENT_CHANNELS = 4
LATENT_PIXELS = 8
# A sampler holds the latent, its noise, the clip in progress and the prediction.
COPIES_WHILE_SAMPLING = 4


def empty_latent(width: int, height: int, frames: int) -> Tensor:
    """Zeros for frames of width x height pixels: (frames, 4, height / 8, width / 8).

    Errors: ValueError for sizes that are not multiples of 8, and for clips that need more memory than is free.
    """
    for name, value in (("width", width), ("height", height)):
        if value % LATENT_PIXELS:
            below = value // LATENT_PIXELS * LATENT_PIXELS
            raise ValueError(
                f"{name} {value} is not a multiple of 8; use {below} or {below + LATENT_PIXELS}."
            )
    device = comfy.model_management.intermediate_device()
    dtype = comfy.model_management.intermediate_dtype()
    shape = (LATENT_CHANNELS, height // LATENT_PIXELS, width // LATENT_PIXELS)
    frame_bytes = math.prod(shape) * dtype.itemsize * COPIES_WHILE_SAMPLING
    free = comfy.model_management.get_free_memory(device)
    if frames * frame_bytes > free:
        raise ValueError(
            f"{frames} frames of {width}x{height} need {frames * frame_bytes / 1e9:.1f} GB of memory to sample, but "
            f"{free / 1e9:.1f} GB is free. At this size, {free // frame_bytes} frames fit. Lower num_frames or the size."
        )
    return torch.zeros((frames, *shape), device=device, dtype=dtype)
