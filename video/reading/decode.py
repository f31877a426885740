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

from ..size import Size, cover, target_size
from ..timing import Selection, TimedFrame, frames_played_at
from .container import Limits
from .frame_buffer import FrameBuffer

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

    def frames(self, start: Fraction = ...) -> Iterator[TimedFrame[Any]]:
        """Yields frames in order of presentation from at or before `start` seconds on."""

    def pixels(self, frame: Any, width: int, height: int) -> np.ndarray | Tensor:
        """A frame scaled to width x height [height, width, 3], or 4 with premultiplied alpha: uint8, or 0..1 floats."""

    def close(self) -> None:
        """Frees what reading frames took; `audio` goes on working."""


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
    """Decodes the selected frames of the source, which it closes, into one tensor that is allocated before decoding.

    `progress(done, total)` is called for every source frame and may raise to cancel.
    Raises ValueError when the memory or frame limit would be passed, or when no frame lies in the selection.
    """
    limits = limits or Limits()
    target = target_size(size, source.width, source.height)
    scaled = cover(source.width, source.height, target)
    if scaled[0] * scaled[1] > limits.max_pixels:
        raise ValueError(
            f"{source.name} is too long and thin: {source.width}x{source.height} would have to be scaled to "
            f"{scaled[0]}x{scaled[1]} to fill {target[0]}x{target[1]}. Crop it first, or choose size source."
        )
    sheet = FrameBuffer(source.name, target, source.has_alpha, limits, dtype, device)
    sheet.reserve(_expected_frames(source, selection))
    shown, end = _fill(sheet, source, selection, scaled, progress)
    source.close()
    if not end:
        raise ValueError(f"{source.name} has no frame that can be decoded. Save or download the video again.")
    if not sheet.count:
        raise ValueError(
            f"{source.name} has no frame after {float(selection.start):g} s: it is {float(end):g} s long. "
            "Lower start_seconds."
        )
    _warn_if_short(source, selection, sheet.count, end)
    if progress:
        progress(sheet.count, sheet.count)
    images, mask = sheet.finish()
    return Clip(images, *_timing(source, selection, sheet.count, shown), mask)


def _fill(
    sheet: FrameBuffer,
    source: Source,
    selection: Selection,
    scaled: tuple[int, int],
    progress: Progress | None,
) -> tuple[Fraction, Fraction]:
    """Writes the selected frames, scaled and cropped; returns when the last one written and the last one read leave."""
    width, height = sheet.size
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    shown = end = Fraction(0)

    def watched() -> Iterator[TimedFrame[Any]]:
        nonlocal end
        for timed in source.frames(selection.start):
            if progress:
                progress(sheet.count, sheet.capacity)
            end = timed.end
            yield timed

    for timed, repeats in frames_played_at(watched(), selection, source.tolerance):
        pixels = source.pixels(timed.frame, *scaled)
        sheet.add(pixels[top : top + height, left : left + width], repeats)
        shown = timed.end
    return shown, end


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


def _timing(
    source: Source, selection: Selection, count: int, shown: Fraction
) -> tuple[Fraction, Fraction, Fraction]:
    """The rate of the clip, where it starts in the source and how long it is, in frames per second and seconds."""
    if selection.fps:
        return selection.fps, selection.start, count / selection.fps
    seconds = shown - selection.start
    if selection.seconds:
        seconds = min(seconds, selection.seconds)
    return _measured_rate(count, seconds, source.rate), selection.start, seconds


def _measured_rate(count: int, seconds: Fraction, nominal: Fraction | None) -> Fraction:
    """The source's own rate when the frames bear it out, else the mean rate of the frames."""
    mean = count / seconds
    if nominal and abs(count - nominal * seconds) <= 1:
        return nominal
    return mean.limit_denominator(1001)
