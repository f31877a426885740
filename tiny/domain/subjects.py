"""Finds the coloured subject in clips of the tiny family, and tells what it is and how it moves, without a learned judge.

Clips are (f, 3, h, w) in 0..1 and square. Lengths are in sides of the picture, rates per frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from .render import CONTRAST, distance_to
from .scenes import COLOURS, SHAPES, TONES

REACH = 0.45  # farthest distance in RGB at which a pixel is still taken for a colour
SMALLEST_AREA = 0.004  # of the picture; the smallest subject covers 0.02
STILL = 0.035  # a subject that stays within so many sides stands still
GROWING = 0.014  # of the radius' logarithm, per frame
BENT = 0.06  # a path is bent if it deviates from a straight line by this share of its length
GRID = 64  # points to a side for comparing outlines


@dataclass(frozen=True)
class Subject:
    """What was found. mask: (f, h, w), True on the subject. x, y, radius: (f,), NaN where there is nothing."""

    colour: str
    shape: str
    mask: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray

    @property
    def seen(self) -> float:
        """Share of the frames that show it."""
        return float(np.isfinite(self.x).mean())


def find_subject(clip: Tensor) -> Subject:
    """The largest thing in a subject's colours; colour and shape are those of the clip as a whole."""
    colours = colours_of(clip)
    mask = np.stack([largest_part(frame) for frame in colours >= 0])
    votes = np.bincount(colours[mask], minlength=len(COLOURS))
    x, y, area = moments(mask)
    return Subject(
        colour=tuple(COLOURS)[int(votes.argmax())],
        shape=shape_of(mask, x, y, area),
        mask=mask,
        x=x,
        y=y,
        radius=np.sqrt(area / math.pi),
    )


def colours_of(clip: Tensor) -> np.ndarray:
    """Index of each pixel's colour, (f, h, w); -1 for the shades of the backgrounds."""
    colours, tones = (torch.tensor(list(values.values())) for values in (COLOURS, TONES))
    shades = tones[:, None] * torch.linspace(1 - CONTRAST / 2, 1 + CONTRAST / 2, 5)[:, None]
    pixels = clip.movedim(1, -1).reshape(-1, 3).float()
    distance, index = torch.cdist(pixels, colours).min(dim=1)
    to_shade = torch.cdist(pixels, shades.flatten(0, 1)).min(dim=1).values
    # An edge runs where a pixel is as far from a shade as from a colour.
    index[(distance > to_shade) | (distance > REACH)] = -1
    return index.view(len(clip), *clip.shape[2:]).numpy()


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask; empty if that is too small to be a subject."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    return (labels == sizes.argmax() + 1) & (sizes.max() >= SMALLEST_AREA * mask.size)


def moments(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle and area of each frame's mask, in sides and squares of them; NaN where it is empty."""
    _, height, width = mask.shape
    area = mask.sum(axis=(1, 2)).astype(float)
    area[area == 0] = np.nan
    x = (mask.sum(axis=1) * (np.arange(width) + 0.5)).sum(axis=1) / area / width
    y = (mask.sum(axis=2) * (np.arange(height) + 0.5)).sum(axis=1) / area / height
    return x, y, area / (height * width)


# ---- shape


def shape_of(mask: np.ndarray, x: np.ndarray, y: np.ndarray, area: np.ndarray) -> str:
    """The shape whose outline, at the same middle and area, fits the masks best, all frames taken together."""
    seen = np.isfinite(x)
    if not seen.any():
        return "nothing"
    fits = {}
    for shape in SHAPES:
        u, v, own_area = _outline(shape)
        scale = np.sqrt(area[seen] / own_area)[:, None, None]
        points = [
            (middle[seen, None, None] + scale * offset) * side - 0.5
            for middle, offset, side in ((y, v, mask.shape[1]), (x, u, mask.shape[2]))
        ]
        inside = _inside(shape)
        found = np.stack(
            [
                ndimage.map_coordinates(frame.astype(np.float32), [rows, columns], order=1)
                for frame, rows, columns in zip(mask[seen], *points, strict=True)
            ]
        )
        fits[shape] = np.minimum(found, inside).sum() / np.maximum(found, inside).sum()
    return max(fits, key=lambda shape: fits[shape])


def _grid() -> np.ndarray:
    return (np.arange(GRID) + 0.5) / GRID * 3 - 1.5


def _inside(shape: str) -> np.ndarray:
    """(GRID, GRID), 1 inside a shape of radius 1."""
    v, u = (torch.from_numpy(part) for part in np.meshgrid(_grid(), _grid(), indexing="ij"))
    return (0.5 - distance_to(shape, u, v) * GRID / 3).clamp(0, 1).numpy()


def _outline(shape: str) -> tuple[np.ndarray, np.ndarray, float]:
    """The grid's points from the shape's centre of mass, and the shape's area."""
    inside, grid = _inside(shape), _grid()
    middle_x, middle_y = (inside.sum(axis=axis) @ grid / inside.sum() for axis in (0, 1))
    v, u = np.meshgrid(grid - middle_y, grid - middle_x, indexing="ij")
    return u, v, float(inside.sum()) * (3 / GRID) ** 2


# ---- movement


@dataclass(frozen=True)
class Movement:
    """name: one of MOTIONS. speed_x, speed_y: sides per frame. growth: of the radius' logarithm, per frame."""

    name: str
    speed_x: float
    speed_y: float
    growth: float


def movement_of(subject: Subject) -> Movement:
    """How the subject moves over the clip; `nothing` where it is seen in less than half of the frames."""
    seen = np.isfinite(subject.x)
    if seen.mean() < 0.5 or seen.sum() < 4:
        return Movement("nothing", 0.0, 0.0, 0.0)
    frames, x, y = np.flatnonzero(seen).astype(float), subject.x[seen], subject.y[seen]
    (speed_x, start_x), (speed_y, start_y) = (np.polyfit(frames, values, 1) for values in (x, y))
    growth = float(np.polyfit(frames, np.log(subject.radius[seen]), 1)[0])
    extent = math.hypot(np.ptp(x), np.ptp(y))
    off_line = np.hypot(x - start_x - speed_x * frames, y - start_y - speed_y * frames)
    name = _name_of(speed_x, speed_y, growth, extent, float(np.sqrt((off_line**2).mean())), len(frames))
    return Movement(name, float(speed_x), float(speed_y), growth)


def _name_of(
    speed_x: float, speed_y: float, growth: float, extent: float, off_line: float, frames: int
) -> str:
    travel = math.hypot(speed_x, speed_y) * (frames - 1)
    if growth > GROWING and travel < 0.1:
        return "grow"
    if extent < STILL:
        return "still"
    if off_line > max(BENT * extent, 0.008):
        return "round"
    return way(speed_x, speed_y)


def way(speed_x: float, speed_y: float) -> str:
    """left, right, up or down."""
    if abs(speed_x) > abs(speed_y):
        return "right" if speed_x > 0 else "left"
    return "down" if speed_y > 0 else "up"


def path_correlation(one: Subject, other: Subject) -> float:
    """Pearson's correlation of two paths, both coordinates together; 0 where either stands still or less than half of the
    frames show both."""
    both = np.isfinite(one.x) & np.isfinite(other.x)
    if both.mean() < 0.5:
        return 0.0
    paths = [
        np.concatenate([values[both] - values[both].mean() for values in (subject.x, subject.y)])
        for subject in (one, other)
    ]
    lengths = math.prod(float(np.linalg.norm(path)) for path in paths)
    return float(paths[0] @ paths[1] / lengths) if lengths > 1e-9 else 0.0


def path_distance(one: Subject, other: Subject) -> float:
    """How far two subjects are from each other, in sides, over the frames that show both; NaN without such frames."""
    both = np.isfinite(one.x) & np.isfinite(other.x)
    return float(np.hypot(one.x - other.x, one.y - other.y)[both].mean()) if both.any() else math.nan
