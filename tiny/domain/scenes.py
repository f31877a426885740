"""What the tiny family can show: any number of seeded scenes with one moving shape in front of a textured background.

Lengths are in sides of the picture, angles in radians, times in frames; x goes right and y goes down.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle", "ring")
COLOURS = {
    "red": (0.90, 0.10, 0.10),
    "yellow": (1.00, 0.92, 0.10),
    "green": (0.10, 0.75, 0.15),
    "blue": (0.12, 0.25, 0.95),
    "purple": (0.62, 0.12, 0.80),
    "white": (0.97, 0.97, 0.97),
}
SIZES = {"small": 0.15, "medium": 0.19, "large": 0.24}  # radius
PATTERNS = ("plain", "cloudy", "spotted")
TONES = {
    "gray": (0.36, 0.36, 0.38),
    "brown": (0.36, 0.26, 0.18),
    "navy": (0.13, 0.17, 0.32),
    "olive": (0.28, 0.33, 0.20),
}
MOTIONS = ("still", "left", "right", "up", "down", "round", "grow")
SPEEDS = {"slowly": 0.5, "normally": 1.0}  # factors on the rates below
LENGTHS = (16, 16, 24)  # frames of a clip, by how often they are drawn

PATH_FREEDOM = 0.25
TRAVEL = 0.024  # sides per frame at normal speed
CIRCLE_RADIUS = 0.16  # of the path
CIRCLE_FRAMES = 20.0  # of one turn at normal speed
GROWTH = 0.045  # radii per frame at normal speed, from SMALLEST on
SMALLEST = 0.6
CELLS = 16  # side of the table of random numbers that a background is made of


@dataclass(frozen=True)
class Attributes:
    """What a caption can say about n scenes: (n,) indices into the tuples above."""

    shape: Tensor
    colour: Tensor
    size: Tensor
    pattern: Tensor
    tone: Tensor
    motion: Tensor
    speed: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def to(self, device: torch.device) -> Attributes:
        return Attributes(*(getattr(self, f.name).to(device) for f in fields(self)))

    def at(self, i: int) -> Attributes:
        """The i-th scene only."""
        return Attributes(*(getattr(self, f.name)[i : i + 1] for f in fields(self)))

    def repeat(self, times: int) -> Attributes:
        """Each scene `times` times in a row."""
        return Attributes(*(getattr(self, f.name).repeat_interleave(times) for f in fields(self)))


@dataclass(frozen=True)
class Scenes:
    """n scenes, with everything needed to draw them at any frame.

    radius, x, y: of the subject at frame 0, (n,). length: frames of its clip, (n,).
    tint: small changes to the two colours, (n, 2, 3). table: random numbers of the background, (n, CELLS, CELLS).
    scale, angle, offset: of the background, (n,), (n,), (n, 2). zoom, roll: of the camera at rest, (n,).
    """

    attributes: Attributes
    radius: Tensor
    x: Tensor
    y: Tensor
    length: Tensor
    tint: Tensor
    table: Tensor
    scale: Tensor
    angle: Tensor
    offset: Tensor
    zoom: Tensor
    roll: Tensor

    def __len__(self) -> int:
        return len(self.radius)

    def to(self, device: torch.device) -> Scenes:
        return Scenes(*(getattr(self, f.name).to(device) for f in fields(self)))


def seeded(*names: object) -> torch.Generator:
    """Random numbers that depend on nothing but the names, such as a seed, a stage and a step."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


# ---- which combinations are held out


def is_held_out(shape: Tensor, colour: Tensor, motion: Tensor) -> Tensor:
    """Whether combinations of indices are held out of training: every sixth, spread so that training shows each shape
    in each movement, in all colours but one."""
    ring = shape == SHAPES.index(
        "ring"
    )  # by the number after this one, which was the star's until stars were dropped
    return (shape + ring + colour + motion) % len(COLOURS) == 0


def combinations(held_out: bool) -> Tensor:
    """(k, 3) indices of shape, colour and motion that belong to a split."""
    shape, colour, motion = torch.meshgrid(
        *(torch.arange(len(values)) for values in (SHAPES, COLOURS, MOTIONS)), indexing="ij"
    )
    chosen = is_held_out(shape, colour, motion) == held_out
    return torch.stack([values[chosen] for values in (shape, colour, motion)], dim=1)


# ---- drawing at random


def draw_attributes(rng: torch.Generator, n: int, held_out: bool = False) -> Attributes:
    allowed = combinations(held_out)
    shape, colour, motion = allowed[torch.randint(len(allowed), (n,), generator=rng)].unbind(1)
    size, pattern, tone, speed = (
        torch.randint(len(values), (n,), generator=rng) for values in (SIZES, PATTERNS, TONES, SPEEDS)
    )
    speed = torch.where(motion == MOTIONS.index("still"), 1, speed)
    return Attributes(shape, colour, size, pattern, tone, motion, speed)


def draw_length(rng: torch.Generator, at_least: int) -> int:
    """Frames of a clip."""
    lengths = [length for length in LENGTHS if length >= at_least]
    return lengths[int(torch.randint(len(lengths), (1,), generator=rng))]


def pick_frames(rng: torch.Generator, length: int, frames: int) -> Tensor:
    """(frames,) of a clip's frames in their order: all, or a random choice."""
    return torch.randperm(length, generator=rng)[:frames].sort().values


def before_textures(rng: torch.Generator, attributes: Attributes) -> Attributes:
    """The same subjects in front of backgrounds that are not plain. Half of them stand still, as far as that leaves them
    on their side of the split."""
    n = len(attributes)
    still = torch.full((n,), MOTIONS.index("still"))
    splits = [
        is_held_out(attributes.shape, attributes.colour, motion) for motion in (attributes.motion, still)
    ]
    stop = (torch.rand(n, generator=rng) < 0.5) & (splits[0] == splits[1])
    return replace(
        attributes,
        pattern=torch.randint(1, len(PATTERNS), (n,), generator=rng),
        motion=torch.where(stop, still, attributes.motion),
        speed=torch.where(stop, 1, attributes.speed),
    )


def draw_scenes(rng: torch.Generator, attributes: Attributes, length: int | None = None) -> Scenes:
    """Scenes that a caption of the attributes describes.

    Args:
        length: frames that the subject's path must fit into; drawn from LENGTHS where None.
    """
    n = len(attributes)

    def between(low: float, high: float, *more: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *more, generator=rng)

    lengths = torch.tensor(LENGTHS)[torch.randint(len(LENGTHS), (n,), generator=rng)]
    if length is not None:
        lengths = torch.full((n,), length)
    radius = torch.tensor(list(SIZES.values()))[attributes.size] * between(0.94, 1.06)
    x, y = _start(attributes, radius, lengths, between(0.0, 1.0, 2))
    return Scenes(
        attributes=attributes,
        radius=radius,
        x=x,
        y=y,
        length=lengths,
        tint=between(-0.02, 0.02, 2, 3),
        table=torch.rand(n, CELLS, CELLS, generator=rng),
        scale=between(0.85, 1.15),
        angle=between(-math.pi / 6, math.pi / 6),
        offset=between(0.0, CELLS, 2),
        zoom=torch.ones(n),
        roll=torch.zeros(n),
    )


def _start(attributes: Attributes, radius: Tensor, length: Tensor, lots: Tensor) -> tuple[Tensor, Tensor]:
    """Where the subjects are at frame 0, so that their paths stay inside the picture as far as possible."""
    speed = torch.tensor(list(SPEEDS.values()))[attributes.speed]
    path = TRAVEL * speed * (length - 1)
    motion = attributes.motion
    largest = torch.where(motion == MOTIONS.index("grow"), SMALLEST + GROWTH * speed * (length - 1), 1.0)
    sign_x, sign_y = (
        (motion == MOTIONS.index(plus)).float() - (motion == MOTIONS.index(minus)).float()
        for plus, minus in (("right", "left"), ("down", "up"))
    )
    circling = (motion == MOTIONS.index("round")).float()
    room = (0.5 - radius * 1.05 * largest - circling * CIRCLE_RADIUS).clamp(min=0.1)
    starts = []
    for sign, lot in ((sign_x, lots[:, 0]), (sign_y, lots[:, 1])):
        # Of the path's middle, to both sides. Paths pass near the picture's middle, so that the words for them say much
        # about where a subject is, which is all they can be learnt from.
        free = torch.where(sign == 0, room, PATH_FREEDOM * (room - path / 2)).clamp(min=0.0)
        starts.append(0.5 + free * (2 * lot - 1) - sign * path / 2)
    return starts[0], starts[1]


def look_around(rng: torch.Generator, scenes: Scenes) -> Scenes:
    """The same scenes seen by a camera that is nearer or farther and slightly tilted; a third of them unchanged."""
    n = len(scenes)
    moved = (torch.rand(n, generator=rng) > 1 / 3).float()
    zoom = torch.exp(moved * 0.3 * (2 * torch.rand(n, generator=rng) - 1))
    roll = moved * 0.3 * (2 * torch.rand(n, generator=rng) - 1)
    return replace(scenes, zoom=zoom, roll=roll)
