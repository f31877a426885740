"""Where the subject and the camera of a scene are at a frame.

Names of movements are the camera's, as in film: PanLeft turns it to the left, so the picture's content moves right;
TiltUp moves the content down; ZoomIn makes it larger; RollingClockwise turns it anticlockwise. That the published motion
LoRAs are named like this is known for ZoomIn only (arXiv 2307.04725: a shrinking crop); for the others it is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .scenes import (
    CIRCLE_FRAMES,
    CIRCLE_RADIUS,
    GROWTH,
    MOTIONS,
    SMALLEST,
    SPEEDS,
    TRAVEL,
    Attributes,
    Scenes,
)

# Per frame: log of the magnification, sides, sides, radians.
CAMERA_RATES = {"zoom": 0.04, "pan": 0.012, "tilt": 0.012, "roll": 0.05}


@dataclass(frozen=True)
class Placement:
    """x, y, radius: (n, f), in the scene's own coordinates, which are the picture's where the camera is at rest."""

    x: Tensor
    y: Tensor
    radius: Tensor


@dataclass(frozen=True)
class Camera:
    """zoom, roll, x, y: (n, f). The camera looks at (0.5 + x, 0.5 + y), turned clockwise by `roll`."""

    zoom: Tensor
    roll: Tensor
    x: Tensor
    y: Tensor


def table(values: Mapping[str, float | tuple[float, ...]], like: Tensor) -> Tensor:
    """The numbers of a vocabulary in its order, on the device of `like`."""
    return torch.tensor(list(values.values()), device=like.device)


def moves_so(attributes: Attributes) -> dict[str, Tensor]:
    """For each movement, which subjects move like that: (n, 1) of ones and zeros."""
    return {name: (attributes.motion[:, None] == index).float() for index, name in enumerate(MOTIONS)}


def subject_at(scenes: Scenes, frames: Tensor) -> Placement:
    """The subjects of n scenes at (n, f) frames."""
    t = table(SPEEDS, frames)[scenes.attributes.speed][:, None] * frames
    is_motion = moves_so(scenes.attributes)
    turn = 2 * math.pi * t / CIRCLE_FRAMES
    x = TRAVEL * t * (is_motion["right"] - is_motion["left"])
    y = TRAVEL * t * (is_motion["down"] - is_motion["up"])
    # Clockwise on the screen, from the top of the circle; x and y are the circle's middle.
    x = x + is_motion["round"] * CIRCLE_RADIUS * turn.sin()
    y = y - is_motion["round"] * CIRCLE_RADIUS * turn.cos()
    size = 1 + is_motion["grow"] * (SMALLEST + GROWTH * t - 1)
    return Placement(scenes.x[:, None] + x, scenes.y[:, None] + y, scenes.radius[:, None] * size)


def subject_velocity(attributes: Attributes, frames: Tensor) -> Tensor:
    """How the subjects of n scenes move at (f,) frames, in sides per frame: (n, f, 2) of x and y. Growing does not count as moving."""
    is_motion = moves_so(attributes)
    speed = table(SPEEDS, frames)[attributes.speed][:, None]
    turn = 2 * math.pi / CIRCLE_FRAMES * speed
    circling = is_motion["round"] * CIRCLE_RADIUS * turn
    x = TRAVEL * speed * (is_motion["right"] - is_motion["left"]) + circling * (turn * frames).cos()
    y = TRAVEL * speed * (is_motion["down"] - is_motion["up"]) + circling * (turn * frames).sin()
    return torch.stack([x, y], dim=-1)


def camera_at(scenes: Scenes, frames: Tensor, axis: str | None = None, rate: Tensor | float = 1.0) -> Camera:
    """The cameras of n scenes at (n, f) frames; they are at rest in the middle of the clip.

    Args:
        axis: zoom, pan, tilt or roll; None for a camera that does not move.
        rate: factor on CAMERA_RATES, negative for the other direction; a number or (n,).
    """
    still = torch.zeros_like(frames)
    moves = dict.fromkeys(CAMERA_RATES, still)
    if axis:
        rate = torch.as_tensor(rate, device=frames.device).reshape(-1, 1)
        moves[axis] = CAMERA_RATES[axis] * rate * (frames - (scenes.length[:, None] - 1) / 2)
    return Camera(
        zoom=scenes.zoom[:, None] * moves["zoom"].exp(),
        roll=scenes.roll[:, None] + moves["roll"],
        x=moves["pan"],
        y=moves["tilt"],
    )


def content_flow(axis: str, side: int) -> Tensor:
    """Where a picture's content goes per frame while the camera moves forwards along an axis: (side, side, 2) of x and y,
    in sides of the picture, at the middles of side x side places."""
    middles = (torch.arange(side) + 0.5) / side - 0.5
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    nothing = torch.zeros_like(x)
    directions = {
        "zoom": (x, y),
        "roll": (y, -x),
        "pan": (nothing - 1, nothing),
        "tilt": (nothing, nothing - 1),
    }
    return CAMERA_RATES[axis] * torch.stack(directions[axis], dim=-1)
