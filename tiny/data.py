"""Batches for training: pictures and clips with captions, each a function of seed, stage and step alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from .captions import draw_captions
from .motions import CAMERA_RATES
from .render import render
from .scenes import (
    Attributes,
    before_textures,
    draw_attributes,
    draw_length,
    draw_scenes,
    look_around,
    pick_frames,
    seeded,
)

# A caption serves this many pictures of a batch: the text encoder is a quarter of a step's time otherwise.
PICTURES_PER_CAPTION = 4


@dataclass(frozen=True)
class CaptionedPictures:
    """pictures: (n, 3, size, size). captions: n / PICTURES_PER_CAPTION, each for as many pictures in a row."""

    pictures: Tensor
    captions: list[str]
    attributes: Attributes
    rng: torch.Generator


@dataclass(frozen=True)
class CaptionedClips:
    """clips: (n, f, 3, size, size). captions: n. frames: (f,), which of the clips' frames these are."""

    clips: Tensor
    captions: list[str]
    attributes: Attributes
    frames: Tensor
    rng: torch.Generator


def picture_batch(
    seed: int,
    stage: str,
    step: int,
    n: int,
    size: int,
    device: torch.device,
    held_out: bool = False,
) -> tuple[Tensor, torch.Generator]:
    """n pictures without captions, and the generator for what else the step draws by lot."""
    rng = seeded(seed, stage, step, held_out)
    return _pictures(rng, draw_attributes(rng, n, held_out), size, device), rng


def captioned_pictures(
    seed: int, stage: str, step: int, n: int, size: int, device: torch.device
) -> CaptionedPictures:
    """Single frames of clips, with the captions of the clips."""
    rng = seeded(seed, stage, step)
    attributes = draw_attributes(rng, n // PICTURES_PER_CAPTION)
    captions = draw_captions(attributes, random.Random(f"{seed}/{stage}/{step}"))
    pictures = _pictures(rng, attributes.repeat(PICTURES_PER_CAPTION), size, device)
    return CaptionedPictures(pictures, captions, attributes, rng)


def _pictures(rng: torch.Generator, attributes: Attributes, size: int, device: torch.device) -> Tensor:
    scenes = look_around(rng, draw_scenes(rng, attributes))
    frames = torch.rand(len(scenes), 1, generator=rng) * (scenes.length[:, None] - 1)
    return render(scenes.to(device), frames.to(device), size)[:, 0]


def captioned_clips(
    seed: int, stage: str, step: int, n: int, frames: int, size: int, device: torch.device
) -> CaptionedClips:
    """Clips with a camera at rest, all of one length; `frames` of their frames, drawn by lot where there are more."""
    rng = seeded(seed, stage, step)
    attributes = draw_attributes(rng, n)
    captions = draw_captions(attributes, random.Random(f"{seed}/{stage}/{step}"))
    length = draw_length(rng, frames)
    scenes = draw_scenes(rng, attributes, length)
    picked = pick_frames(rng, length, frames)
    clips = render(scenes.to(device), picked.float().expand(n, -1).to(device), size)
    return CaptionedClips(clips, captions, attributes, picked, rng)


def camera_clips(
    seed: int, axis: str, step: int, n: int, frames: int, size: int, device: torch.device
) -> CaptionedClips:
    """Clips in which the camera moves along an axis, the first half of them forwards, the others backwards.

    The background is never plain, as nothing would be seen of the movement there; half of the subjects stand still.
    """
    if axis not in CAMERA_RATES:
        raise ValueError(f"There is no camera axis '{axis}'; choose one of {', '.join(CAMERA_RATES)}.")
    rng = seeded(seed, axis, step)
    attributes = before_textures(rng, draw_attributes(rng, n))
    captions = draw_captions(attributes, random.Random(f"{seed}/{axis}/{step}"))
    length = draw_length(rng, frames)
    scenes = draw_scenes(rng, attributes, length)
    picked = pick_frames(rng, length, frames)
    rate = 0.8 + 0.4 * torch.rand(n, generator=rng)
    rate[n // 2 :] *= -1
    clips = render(scenes.to(device), picked.float().expand(n, -1).to(device), size, axis, rate.to(device))
    return CaptionedClips(clips, captions, attributes, picked, rng)
