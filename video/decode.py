"""Frames of a video in one tensor: select, scale, crop and write, one frame at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .container import Limits
from .select import Selection, Timed, on_screen
from .size import Size, cover, target_size

Progress = Callable[[int, int], None]
FIRST_ROOM = 64  # frames, for files that don't say how long they are
EARLY = Fraction(1, 2)  # seconds of a file that may be missing at its end without a word


class Source(Protocol):
    """Where frames come from: a file, an animated picture or a tensor."""

    name: str
    width: int
    height: int
    duration: Fraction | None
    rate: Fraction | None
    has_alpha: bool
    damaged: bool
    tolerance: Fraction

    def frames(self, start: Fraction = ...) -> Iterator[Timed[Any]]:
        """Yields frames in order of presentation from at or before `start` seconds on."""

    def pixels(self, frame: Any, width: int, height: int) -> np.ndarray | Tensor:
        """A frame scaled to width x height [height, width, 3], or 4 with premultiplied alpha: uint8, or 0..1 floats."""


@dataclass(frozen=True)
class Clip:
    """Frames [n, height, width, 3] in 0..1, the rate they play at, and the part of the source that they show.

    `mask` [n, height, width] is 1 where the source is transparent, None when it has no alpha.
    """

    images: Tensor
    fps: Fraction
    start: Fraction
    seconds: Fraction
    mask: Tensor | None = None


def load_clip(
    source: Source,
    selection: Selection,
    size: Size,
    *,
    limits: Limits | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Clip:
    """Decodes the selected frames of the source into one tensor that is allocated before decoding.

    `progress(done, total)` is called for every source frame and may raise to cancel.
    Raises ValueError when the memory or frame limit would be passed, or when no frame lies in the selection.
    """
    target = target_size(size, source.width, source.height)
    sheet = _Sheet(source, target, limits or Limits(), dtype, device)
    sheet.reserve(_expected_frames(source, selection))
    end = Fraction(0)

    def watched() -> Iterator[Timed[Any]]:
        nonlocal end
        for timed in source.frames(selection.start):
            if progress:
                progress(sheet.count, sheet.capacity)
            end = timed.time + timed.duration
            yield timed

    for frame, repeats in on_screen(watched(), selection, source.tolerance):
        sheet.add(frame, repeats)
    if not sheet.count:
        raise ValueError(
            f"{source.name} has no frame after {float(selection.start):g} s: it is {float(end):g} s long. "
            "Lower start_seconds."
        )
    _warn_if_short(source, selection, sheet.count, end)
    if progress:
        progress(sheet.count, sheet.count)
    return _clip(sheet, source, selection, end)


class _Sheet:
    """The tensor that frames are written to; it grows only if the source is longer than it says."""

    def __init__(
        self,
        source: Source,
        target: tuple[int, int],
        limits: Limits,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.source, self.target, self.limits = source, target, limits
        self.dtype, self.device = dtype, device
        self.scaled = cover(source.width, source.height, target)
        self.count = self.capacity = 0
        self.images = torch.empty(0)
        self.mask = torch.empty(0) if source.has_alpha else None

    def reserve(self, frames: int) -> None:
        """Makes room for `frames` frames, after checking the limits."""
        self._check(frames)
        self.images = self._resized(self.images, (frames, self.target[1], self.target[0], 3))
        if self.mask is not None:
            self.mask = self._resized(self.mask, (frames, self.target[1], self.target[0]))
        self.capacity = frames

    def add(self, frame: Any, repeats: int) -> None:
        """Writes a frame `repeats` times."""
        if self.count + repeats > self.capacity:
            self.reserve(max(self.count + repeats, min(2 * self.capacity, self.limits.max_frames)))
        width, height = self.target
        left, top = (self.scaled[0] - width) // 2, (self.scaled[1] - height) // 2
        pixels = self.source.pixels(frame, *self.scaled)[top : top + height, left : left + width]
        rows = slice(self.count, self.count + repeats)
        shown = _unit_range(pixels).to(self.images)
        self.images[rows] = shown[..., :3]
        if self.mask is not None:
            self.mask[rows] = 1 - shown[..., 3] if shown.shape[-1] == 4 else 0
        self.count += repeats

    def _resized(self, old: Tensor, shape: tuple[int, ...]) -> Tensor:
        new = torch.empty(shape, dtype=self.dtype, device=self.device)
        if self.count:
            new[: self.count] = old[: self.count]
        return new

    def _check(self, frames: int) -> None:
        width, height = self.target
        remedy = "Lower first_n_seconds, fps or size, or set max_frames."
        if frames > self.limits.max_frames:
            raise ValueError(
                f"{self.source.name} would give {frames:,} frames, more than the limit of {self.limits.max_frames:,}. "
                + remedy
            )
        channels = 3 if self.mask is None else 4
        needed = frames * width * height * channels * self.dtype.itemsize
        if self.limits.max_bytes is not None and needed > self.limits.max_bytes:
            raise ValueError(
                f"{frames:,} frames of {width}x{height} need {needed / 2**30:.1f} GB, "
                f"but only {self.limits.max_bytes / 2**30:.1f} GB of memory is free. " + remedy
            )


def _unit_range(pixels: np.ndarray | Tensor) -> Tensor:
    """Levels as floats in 0..1; tensors are that already."""
    if isinstance(pixels, Tensor):
        return pixels
    return torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(255)


def _expected_frames(source: Source, selection: Selection) -> int:
    """How many frames to make room for: by the selection, and by the file's own duration where it has one."""
    wanted = selection.count()
    if source.duration is None or not (selection.fps or source.rate):
        return FIRST_ROOM if wanted is None else min(wanted, FIRST_ROOM)
    present = selection.count_until(source.duration, source.rate or Fraction(0))
    return max(1, present if wanted is None else min(wanted, present))


def _warn_if_short(source: Source, selection: Selection, count: int, end: Fraction) -> None:
    wanted = selection.count()
    missing = source.duration is not None and source.duration - end > EARLY
    satisfied = count == wanted or (selection.seconds and end >= selection.start + selection.seconds)
    if not satisfied and (missing or source.damaged):
        logging.warning(
            "%s is damaged or cut off: it ended after %.1f s. The %d frames before that are used.",
            source.name,
            float(end),
            count,
        )


def _clip(sheet: _Sheet, source: Source, selection: Selection, end: Fraction) -> Clip:
    if selection.fps:
        fps, seconds = selection.fps, sheet.count / selection.fps
    else:
        seconds = end - selection.start
        if selection.seconds:
            seconds = min(seconds, selection.seconds)
        fps = _measured_rate(sheet.count, seconds, source.rate)
    mask = None if sheet.mask is None else sheet.mask[: sheet.count]
    return Clip(sheet.images[: sheet.count], fps, selection.start, seconds, mask)


def _measured_rate(count: int, seconds: Fraction, nominal: Fraction | None) -> Fraction:
    """The source's own rate when the frames bear it out, else the mean rate of the frames."""
    mean = count / seconds
    if nominal and abs(count - nominal * seconds) <= 1:
        return nominal
    return mean.limit_denominator(1001)
