"""Draws scenes: shapes as signed distances, so that edges are anti-aliased; backgrounds from tables of random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from .motions import Camera, Placement, camera_at, subject_at, table
from .scenes import CELLS, COLOURS, PATTERNS, SHAPES, TONES, Scenes

# Sides per cell of each background.
CELL_SIZES = {"plain": 1.0, "cloudy": 0.30, "spotted": 0.36}
CONTRAST = 0.8  # a background goes from 0.6 to 1.4 times its tone


def render(
    scenes: Scenes, frames: Tensor, size: int, axis: str | None = None, rate: Tensor | float = 1.0
) -> Tensor:
    """Pictures of n scenes at (n, f) frames: (n, f, 3, size, size) in 0..1.

    Args:
        axis, rate: the camera's movement, as for `camera_at`.
    """
    n, f = frames.shape
    camera = camera_at(scenes, frames, axis, rate)
    x, y = scene_points(camera, size)  # (n, f, p)
    pictures = background(scenes, x, y, size)
    pixels = size * camera.zoom[..., None]  # per side of the scene
    cover = coverage(scenes, subject_at(scenes, frames), x, y, pixels)[..., None]
    colour = table(COLOURS, x)[scenes.attributes.colour]
    colour = (colour + scenes.tint[:, 0]).clamp(0, 1)[:, None, None]
    pictures = torch.lerp(pictures, colour, cover)
    return pictures.transpose(2, 3).reshape(n, f, 3, size, size)


def scene_points(camera: Camera, size: int) -> tuple[Tensor, Tensor]:
    """The scene's coordinates under each pixel's middle: x and y, (n, f, size * size)."""
    middle = (torch.arange(size, device=camera.zoom.device) + 0.5) / size - 0.5
    v, u = (grid.reshape(1, 1, -1) for grid in torch.meshgrid(middle, middle, indexing="ij"))
    cos, sin = ((part(camera.roll) / camera.zoom)[..., None] for part in (torch.cos, torch.sin))
    return 0.5 + camera.x[..., None] + cos * u - sin * v, 0.5 + camera.y[..., None] + sin * u + cos * v


# ---- the subject


def coverage(scenes: Scenes, subject: Placement, x: Tensor, y: Tensor, pixels: Tensor) -> Tensor:
    """How much of each pixel the subject covers: (n, f, p) in 0..1."""
    radius = subject.radius[..., None]
    x, y = (x - subject.x[..., None]) / radius, (y - subject.y[..., None]) / radius
    distance = torch.empty_like(x)
    for index, name in enumerate(SHAPES):
        chosen = scenes.attributes.shape == index
        distance[chosen] = distance_to(name, x[chosen], y[chosen])
    return (0.5 - distance * radius * pixels).clamp(0, 1)


def distance_to(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Distance to a shape of radius 1 around the origin, negative inside; exact near the edges."""
    if shape == "circle":
        return torch.hypot(x, y) - 0.95
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.85
    if shape == "triangle":
        return torch.maximum(y - 0.7, 0.866 * x.abs() - 0.5 * y - 0.6)
    return (torch.hypot(x, y) - 0.73).abs() - 0.24


# ---- the background


def background(scenes: Scenes, x: Tensor, y: Tensor, size: int) -> Tensor:
    """(n, f, p, 3) in 0..1: each scene's tone, darker and lighter by its pattern."""
    light = torch.full_like(x, 0.5)
    for index, name in enumerate(PATTERNS):
        chosen = scenes.attributes.pattern == index
        if name != "plain" and chosen.any():
            light[chosen] = pattern(name, scenes, chosen, x[chosen], y[chosen], size)
    tone = table(TONES, x)[scenes.attributes.tone] + scenes.tint[:, 1]
    return (tone[:, None, None] * (1 - CONTRAST / 2 + CONTRAST * light)[..., None]).clamp(0, 1)


def pattern(name: str, scenes: Scenes, chosen: Tensor, x: Tensor, y: Tensor, size: int) -> Tensor:
    """The pattern's brightness at points of the chosen scenes, in 0..1. No part of it repeats within a clip."""
    cell = CELL_SIZES[name] * scenes.scale[chosen][:, None, None]
    cos, sin = (part(scenes.angle[chosen])[:, None, None] / cell for part in (torch.cos, torch.sin))
    offset = scenes.offset[chosen]
    u, v = cos * x - sin * y + offset[:, 0, None, None], sin * x + cos * y + offset[:, 1, None, None]
    numbers = scenes.table[chosen].flatten(1)
    if name == "spotted":
        return spots(numbers, u, v, cell * size)
    return ((value_noise(numbers, u, v) - 0.5) * 1.3 + 0.5).clamp(0, 1)


def look_up(numbers: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """numbers: (n, CELLS * CELLS). column, row: (n, f, p), whole numbers. Returns (n, f, p)."""
    index = (row.long() % CELLS) * CELLS + column.long() % CELLS
    return numbers.gather(1, index.flatten(1)).view_as(column)


def value_noise(numbers: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """A value per cell, blended smoothly between the cells' middles."""
    column, row = (u - 0.5).floor(), (v - 0.5).floor()
    right, below = u - 0.5 - column, v - 0.5 - row
    right, below = right * right * (3 - 2 * right), below * below * (3 - 2 * below)
    upper = torch.lerp(look_up(numbers, column, row), look_up(numbers, column + 1, row), right)
    lower = torch.lerp(look_up(numbers, column, row + 1), look_up(numbers, column + 1, row + 1), right)
    return torch.lerp(upper, lower, below)


def spots(numbers: Tensor, u: Tensor, v: Tensor, pixels: Tensor) -> Tensor:
    """Light discs on dark ground, one per cell, each with its own place and size."""
    column, row = u.floor(), v.floor()
    radius = 0.2 + 0.16 * look_up(numbers, column, row)
    room = 0.5 - radius
    du = u - column - 0.5 - room * (2 * look_up(numbers, column + 5, row + 3) - 1)
    dv = v - row - 0.5 - room * (2 * look_up(numbers, column + 2, row + 7) - 1)
    inside = (0.5 + (radius - torch.hypot(du, dv)) * pixels).clamp(0, 1)
    return 0.25 + 0.75 * inside
