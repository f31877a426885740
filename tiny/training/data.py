"""Batches for training: pictures and clips with captions, each a function of seed, stage and step alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..domain.captions import ACROSS, DOWN, NO_CAPTIONS, draw_captions, without_motion
from ..domain.motions import CAMERA_RATES, subject_at
from ..domain.render import render
from ..domain.scenes import (
    COLOURS,
    SHAPES,
    Attributes,
    Scenes,
    before_textures,
    draw_attributes,
    draw_length,
    draw_scenes,
    is_held_out,
    look_around,
    pick_frames,
    seeded,
)

# A caption serves this many pictures of a batch: otherwise the text encoder takes a quarter of a step's time.
PICTURES_PER_CAPTION = 4
SPOT_RATE = 0.5  # of captions that say where the subject is across, or down
EDGE = 0.1  # of the picture, where no subject's middle is put


@dataclass(frozen=True)
class CaptionedPictures:
    """pictures: (n, 3, size, size). captions: n / PICTURES_PER_CAPTION, each for as many pictures in a row."""

    pictures: Tensor
    captions: list[str]
    attributes: Attributes
    rng: torch.Generator


@dataclass(frozen=True)
class CaptionedClips:
    """clips: (n, f, 3, size, size). captions: n. frames: (f,), which of the clips' frames these are.

    frame_captions: n * f, the captions that say where the subject is in each frame; from `captioned_clips` only.
    """

    clips: Tensor
    captions: list[str]
    attributes: Attributes
    frames: Tensor
    rng: torch.Generator
    frame_captions: tuple[str, ...] = ()


def picture_batch(
    seed: int,
    stage: str,
    step: int,
    n: int,
    size: int,
    device: torch.device,
    held_out: bool = False,
) -> tuple[Tensor, torch.Generator]:
    """n pictures without captions, and the generator for whatever else the step draws at random."""
    rng = seeded(seed, stage, step, held_out)
    return _pictures(rng, draw_attributes(rng, n, held_out), size, device), rng


def captioned_pictures(
    seed: int, stage: str, step: int, n: int, size: int, device: torch.device
) -> CaptionedPictures:
    """Single frames of clips, with the captions of the clips."""
    rng = seeded(seed, stage, step)
    attributes = draw_attributes(rng, n // PICTURES_PER_CAPTION)
    spots = torch.stack([_draw_spots(rng, len(attributes), len(words)) for words in (ACROSS, DOWN)], dim=1)
    captions = draw_captions(attributes, random.Random(f"{seed}/{stage}/{step}"), spots)
    repeated = spots.repeat_interleave(PICTURES_PER_CAPTION, 0)
    pictures = _pictures(rng, attributes.repeat(PICTURES_PER_CAPTION), size, device, repeated)
    return CaptionedPictures(pictures, captions, attributes, rng)


def _draw_spots(rng: torch.Generator, n: int, places: int) -> Tensor:
    """(n,) of so many places, or -1."""
    said = torch.rand(n, generator=rng) < SPOT_RATE
    return torch.where(said, torch.randint(places, (n,), generator=rng), -1)


def _pictures(
    rng: torch.Generator,
    attributes: Attributes,
    size: int,
    device: torch.device,
    spots: Tensor | None = None,
) -> Tensor:
    scenes = look_around(rng, draw_scenes(rng, attributes))
    frames = torch.rand(len(scenes), 1, generator=rng) * (scenes.length[:, None] - 1)
    if spots is not None:
        scenes = _move_to(rng, scenes, frames, spots)
    return render(scenes.to(device), frames.to(device), size)[:, 0]


def _move_to(rng: torch.Generator, scenes: Scenes, frames: Tensor, spots: Tensor) -> Scenes:
    """The subjects at their spots, (n, 2), at these frames, (n, 1); their cameras are at rest then."""
    subject = subject_at(scenes, frames)
    fifths = (spots + torch.rand(spots.shape, generator=rng)) / len(ACROSS)
    moves = EDGE + (1 - 2 * EDGE) * fifths - torch.cat([subject.x, subject.y], dim=1)
    moves = torch.where(spots >= 0, moves, 0.0)
    free = (spots < 0).all(dim=1)
    return replace(
        scenes,
        x=scenes.x + moves[:, 0],
        y=scenes.y + moves[:, 1],
        zoom=torch.where(free, scenes.zoom, 1.0),
        roll=torch.where(free, scenes.roll, 0.0),
    )


def captioned_clips(
    seed: int, stage: str, step: int, n: int, frames: int, size: int, device: torch.device
) -> CaptionedClips:
    """Clips with a camera at rest, all of one length; `frames` of their frames, drawn at random if there are more."""
    rng = seeded(seed, stage, step)
    attributes = draw_attributes(rng, n)
    key = f"{seed}/{stage}/{step}"
    captions = draw_captions(attributes, random.Random(key))
    length = draw_length(rng, frames)
    scenes = draw_scenes(rng, attributes, length)
    picked = pick_frames(rng, length, frames)
    times = picked.float().expand(n, -1)
    by_frame = [draw_captions(attributes, random.Random(key), spots) for spots in _spots_at(scenes, times)]
    frame_captions = tuple(text for texts in zip(*by_frame, strict=True) for text in texts)
    clips = render(scenes.to(device), times.to(device), size)
    return CaptionedClips(clips, captions, attributes, picked, rng, frame_captions)


def _spots_at(scenes: Scenes, frames: Tensor) -> Tensor:
    """Where the subjects are at (n, f) frames, in fifths of the picture: (f, n, 2)."""
    subject = subject_at(scenes, frames)
    fifths = (torch.stack([subject.x, subject.y], dim=-1) - EDGE) / (1 - 2 * EDGE) * len(ACROSS)
    return fifths.long().clamp(0, len(ACROSS) - 1).transpose(0, 1)


def camera_clips(
    seed: int,
    stage: str,
    axis: str,
    sign: float,
    step: int,
    n: int,
    frames: int,
    size: int,
    device: torch.device,
) -> CaptionedClips:
    """Whole clips in which the camera moves along an axis, forwards where sign is 1, backwards where it is -1.

    The background is never plain, because the movement would not show there; almost half of the subjects stand still.
    """
    if axis not in CAMERA_RATES:
        raise ValueError(f"There is no camera axis '{axis}'; choose one of {', '.join(CAMERA_RATES)}.")
    rng = seeded(seed, stage, axis, step)
    attributes = before_textures(rng, draw_attributes(rng, n))
    captions = draw_captions(attributes, random.Random(f"{seed}/{stage}/{axis}/{step}"))
    scenes, picked = draw_scenes(rng, attributes, frames), torch.arange(frames)
    rate = sign * (0.8 + 0.4 * torch.rand(n, generator=rng))
    clips = render(scenes.to(device), picked.float().expand(n, -1).to(device), size, axis, rate.to(device))
    return CaptionedClips(clips, captions, attributes, picked, rng)


def edited_clips(
    seed: int, stage: str, step: int, n: int, frames: int, size: int, device: torch.device
) -> tuple[CaptionedClips, CaptionedClips]:
    """Clips that are asked for, and the clips that are shown instead: other subjects on the same paths in front of the same
    backgrounds.

    The camera is at rest. Captions describe what is asked for, without its movement. What is shown has another colour and
    often another shape; both are the same where the caption is empty and where the other combination is held out.
    """
    rng = seeded(seed, stage, step)
    attributes = draw_attributes(rng, n)
    captions = [
        without_motion(text) for text in draw_captions(attributes, random.Random(f"{seed}/{stage}/{step}"))
    ]
    length = draw_length(rng, frames)
    scenes = draw_scenes(rng, attributes, length)
    picked = pick_frames(rng, length, frames)
    told = torch.tensor([text not in NO_CAPTIONS for text in captions])
    others = _as_other_subjects(rng, attributes, told)
    times = picked.float().expand(n, -1).to(device)
    asked, shown = (
        CaptionedClips(
            render(replace(scenes, attributes=subjects).to(device), times, size),
            captions,
            subjects,
            picked,
            rng,
        )
        for subjects in (attributes, others)
    )
    return asked, shown


def _as_other_subjects(rng: torch.Generator, attributes: Attributes, where: Tensor) -> Attributes:
    n = len(attributes)
    colour = (attributes.colour + torch.randint(1, len(COLOURS), (n,), generator=rng)) % len(COLOURS)
    other_shape = torch.randint(len(SHAPES), (n,), generator=rng)
    shape = torch.where(torch.rand(n, generator=rng) < 0.5, other_shape, attributes.shape)
    where = where & ~is_held_out(shape, colour, attributes.motion)
    return replace(
        attributes,
        colour=torch.where(where, colour, attributes.colour),
        shape=torch.where(where, shape, attributes.shape),
    )
