"""Measures of whether clips show what was asked for. Clips are (f, 3, h, w) in 0..1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .motions import CAMERA_RATES
from .registration import camera_move, camera_rates
from .scenes import COLOURS, MOTIONS, SHAPES, SPEEDS, TRAVEL, Attributes
from .subjects import STILL, Movement, Subject, find_subject, movement_of, way

DIRECTIONS = ("left", "right", "up", "down")
EDGE = 4  # pixels around the subject that are not background, for its blurred outline


@dataclass(frozen=True)
class Verdict:
    """What in a clip is as its caption says; direction and speed_error are None where the caption asks for no direction.

    movement: one of seven; a straight one must also be straight. direction: one of four, on average.
    speed_error: as a share of the speed asked for. jitter: mean change from frame to frame. drift: how far the background is from
    its own median picture, on average.
    """

    colour: bool
    shape: bool
    movement: bool
    direction: bool | None
    speed_error: float | None
    jitter: float
    drift: float


def judge(clip: Tensor, asked: Attributes) -> Verdict:
    """asked: of one scene."""
    subject = find_subject(clip)
    movement = movement_of(subject)
    motion = MOTIONS[asked.motion[0]]
    direction = speed_error = None
    if motion in DIRECTIONS:
        direction = heading(movement, len(clip)) == motion
        speed = TRAVEL * tuple(SPEEDS.values())[asked.speed[0]]
        speed_error = abs(along(movement, motion) / speed - 1)
    return Verdict(
        colour=subject.colour == tuple(COLOURS)[asked.colour[0]] and subject.seen > 0.5,
        shape=subject.shape == SHAPES[asked.shape[0]] and subject.seen > 0.5,
        movement=movement.name == motion,
        direction=direction,
        speed_error=speed_error,
        jitter=jitter(clip),
        drift=background_drift(clip, subject),
    )


def heading(movement: Movement, frames: int) -> str | None:
    """The direction in which a subject mostly moves, however bent its path; None where it hardly moves."""
    if max(abs(movement.speed_x), abs(movement.speed_y)) * (frames - 1) < STILL:
        return None
    return way(movement.speed_x, movement.speed_y)


def along(movement: Movement, direction: str) -> float:
    """Speed in a direction, in sides per frame; negative where it goes the other way."""
    speed = movement.speed_x if direction in ("left", "right") else movement.speed_y
    return -speed if direction in ("left", "up") else speed


def jitter(clip: Tensor) -> float:
    """Mean absolute change of a pixel from one frame to the next."""
    return clip.diff(dim=0).abs().mean().item()


def background_drift(clip: Tensor, subject: Subject) -> float:
    """Mean absolute distance of the background, where the camera rests, from its median over the clip."""
    near = torch.from_numpy(subject.mask).float()[:, None]
    near = torch.nn.functional.max_pool2d(near, 2 * EDGE + 1, stride=1, padding=EDGE)
    away = (clip - clip.median(dim=0).values).abs().mean(dim=1, keepdim=True)
    # The median shows a subject that stands still, or moves slowly: places that it covers at any time don't count.
    background = (near.max(dim=0).values == 0).expand_as(away)
    return away[background].mean().item() if background.any() else math.nan


def camera_speed(clip: Tensor, axis: str) -> tuple[bool, float]:
    """Whether the camera moves mostly along an axis, and how fast: 1 is the motion LoRAs' own rate forwards."""
    rates = camera_rates(clip, torch.from_numpy(find_subject(clip).mask))
    move = camera_move(rates)
    return (move is not None and move[0] == axis), rates[axis] / CAMERA_RATES[axis]


def psnr(one: Tensor, other: Tensor) -> float:
    """Likeness of two clips of the same size in dB, at most 100."""
    error = (one - other).square().mean().item()
    return min(-10 * math.log10(error), 100.0) if error > 0 else 100.0


def falls(values: list[float]) -> bool:
    return all(later < earlier for earlier, later in zip(values, values[1:], strict=False))


def share(answers: list[bool | None]) -> float:
    """Percent of those that are not None."""
    known = [answer for answer in answers if answer is not None]
    return 100 * sum(known) / len(known) if known else math.nan


def mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
