"""Numbers that change along a clip, and over its pixels: how strongly the motion module acts, and where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .keyframes import Key, blends, brief, parse_keys

EXAMPLE = "24: 0.5"


def parse_numbers(text: str) -> list[Key]:
    """The keys of a schedule such as `0: 0.2, 24: 1.0`. Errors: as `keyframes.parse_keys`."""
    return parse_keys(text, ends="\n,，", example=EXAMPLE)


def values_of(keys: Sequence[Key], num_frames: int, interpolation: str) -> list[float]:
    """One number for each frame of the clip.

    Errors: ValueError that names the line where a key's text is no number.
    """
    numbers = [_number(key.text, key.line) for key in keys]
    rows = blends([key.frame for key in keys], num_frames, interpolation)
    return [numbers[a] + (numbers[b] - numbers[a]) * weight for a, b, weight in rows]


def _number(text: str, line: int) -> float:
    """Also in parentheses, as other tools write it."""
    try:
        number = float(text.removeprefix("(").removesuffix(")"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"Line {line}: {brief(text) or 'nothing'} is not a number; write a key such as {EXAMPLE}."
        )
    return number


@dataclass(frozen=True)
class FrameValues:
    """One number for a whole clip, or one for each frame; with a mask (n, h, w), times what it has at a pixel."""

    name: str
    numbers: tuple[float, ...]
    mask: Tensor | None = None

    @classmethod
    def make(
        cls, name: str, value: float | Sequence[float], most: float, mask: Tensor | None = None
    ) -> FrameValues:
        """name: of the input, for messages. most: the largest number; the smallest is 0.

        Errors: ValueError where a number is out of range, or there is none.
        """
        numbers = (float(value),) if isinstance(value, int | float) else tuple(map(float, value))
        if not numbers:
            raise ValueError(f"{name} has no numbers. Connect Value Schedule, or nothing.")
        for frame, number in enumerate(numbers):
            if not 0.0 <= number <= most:
                raise ValueError(f"{name} is {number:g} at frame {frame}; expected 0 to {most:g}.")
        if mask is not None:
            mask = mask.reshape(-1, *mask.shape[-2:]).clamp(0.0, 1.0)
            mask = None if bool((mask == 1.0).all()) else mask
        return cls(name, numbers if len(set(numbers)) > 1 else numbers[:1], mask)

    @property
    def is_zero(self) -> bool:
        return not any(self.numbers)

    @property
    def masks(self) -> int:
        return 1 if self.mask is None else len(self.mask)

    def __str__(self) -> str:
        low, high = min(self.numbers), max(self.numbers)
        return (f"{low:g}" if low == high else f"{low:g} to {high:g}") + (
            " by mask" if self.mask is not None else ""
        )

    def at(self, frames: Sequence[int], clip_length: int, x: Tensor) -> float | Tensor:
        """The number for some frames of a clip, on the device of x (..., h, w); else one for each: (frames, 1, h, w).

        Fewer masks than frames are repeated, as the host does. Without a mask, h and w are 1.
        Errors: as `numbers_at`.
        """
        if len(self.numbers) == 1 and self.mask is None:
            return self.numbers[0]
        found = torch.tensor(self.numbers_at(frames, clip_length)).view(-1, 1, 1, 1)
        if self.mask is not None:
            rows = self.mask[[frame % len(self.mask) for frame in frames], None].float()
            found = found * F.interpolate(rows, x.shape[-2:], mode="area").cpu()
        return found.to(x.device, non_blocking=True)

    def numbers_at(self, frames: Sequence[int], clip_length: int) -> list[float]:
        """One number for each of some frames of a clip.

        Errors: ValueError where there are more than one number, but not one for each frame of the clip.
        """
        if len(self.numbers) not in (1, clip_length):
            raise ValueError(
                f"{self.name} has {len(self.numbers)} numbers, the clip has {clip_length} frames. Set num_frames of "
                f"Value Schedule to {clip_length}."
            )
        return [self.numbers[frame % len(self.numbers)] for frame in frames]


def blend(x: Tensor, y: Tensor, amount: float | Tensor) -> Tensor:
    """x + amount * (y - x) for features (b * f, c, h, w); the amount may be one for each frame and pixel (f, 1, h, w)."""
    if isinstance(amount, Tensor):
        if amount.shape[-2:].numel() > 1:
            amount = F.interpolate(amount, x.shape[-2:], mode="area")
        clips = (-1, len(amount))
        return torch.lerp(x.unflatten(0, clips), y.unflatten(0, clips), amount.to(x.dtype)).flatten(0, 1)
    return y if amount == 1.0 else torch.lerp(x, y, amount)
