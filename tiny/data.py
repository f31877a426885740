"""Batches for training: pictures and clips with captions, each a function of seed, stage and step alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .captions import ACROSS, DOWN, draw_captions
from .motions import CAMERA_RATES, subject_at
from .render import render
from .scenes import (
    Attributes,
    Scenes,
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

    frame_captions: n * f, the captions with where the subject is in each frame; none where the camera moves.
    """

    clips: Tensor
    captions: list[str]
    attributes: Attributes
    frames: Tensor
    rng: torch.Generator
    frame_captions: tuple[str, ...] = ()

    def half(self, first: bool) -> CaptionedClips:
        """The first or the second half of the clips."""
        middle = len(self.captions) // 2
        part = slice(middle) if first else slice(middle, None)
        attributes = Attributes(*(getattr(self.attributes, f.name)[part] for f in fields(self.attributes)))
        return replace(self, clips=self.clips[part], captions=self.captions[part], attributes=attributes)


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
    """Clips with a camera at rest, all of one length; `frames` of their frames, drawn by lot where there are more."""
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
    seed: int, axis: str, step: int, n: int, frames: int, size: int, device: torch.device
) -> CaptionedClips:
    """Whole clips in which the camera moves along an axis, the first half of them forwards, the others backwards.

    The background is never plain, as nothing would be seen of the movement there; almost half of the subjects stand still.
    """
    if axis not in CAMERA_RATES:
        raise ValueError(f"There is no camera axis '{axis}'; choose one of {', '.join(CAMERA_RATES)}.")
    rng = seeded(seed, axis, step)
    attributes = before_textures(rng, draw_attributes(rng, n))
    captions = draw_captions(attributes, random.Random(f"{seed}/{axis}/{step}"))
    scenes, picked = draw_scenes(rng, attributes, frames), torch.arange(frames)
    rate = 0.8 + 0.4 * torch.rand(n, generator=rng)
    rate[n // 2 :] *= -1
    clips = render(scenes.to(device), picked.float().expand(n, -1).to(device), size, axis, rate.to(device))
    return CaptionedClips(clips, captions, attributes, picked, rng)
