"""Frames of a video in one tensor: select, scale, crop and write, one frame at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..size import Size, cover, target_size
from ..timing import Selection, TimedFrame, frames_played_at
from .container import Limits
from .frame_buffer import FrameBuffer
from .source import Source

Progress = Callable[[int, int], None]
FIRST_ROOM = 64  # frames, for files that don't say how long they are
EARLY = Fraction(1, 2)  # seconds of a file that may be missing at its end without a word


@dataclass(frozen=True)
class Clip:
    """Frames [n, height, width, 3] in 0..1, the rate they play at, and the part of the source that they show.

    `mask` [n, height, width] is 1 where the source is transparent, None where no frame is.
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
    buffer = FrameBuffer(source.name, target, limits, dtype, device)
    expected = _expected_frames(source, selection)
    buffer.reserve(min(FIRST_ROOM, buffer.most) if expected is None else expected)
    shown, end = _fill(buffer, source, selection, scaled, progress)
    source.close()
    if not end:
        raise ValueError(f"{source.name} has no frame that can be decoded. Save or download the video again.")
    if not buffer.count:
        raise ValueError(
            f"{source.name} has no frame after {float(selection.start):g} s: it is {float(end):g} s long. "
            "Lower start_seconds."
        )
    _warn_if_short(source, selection, buffer.count, end)
    if progress:
        progress(buffer.count, buffer.count)
    images, mask = buffer.finish()
    return Clip(images, *_timing(source, selection, buffer.count, shown), mask)


def _fill(
    buffer: FrameBuffer,
    source: Source,
    selection: Selection,
    scaled: tuple[int, int],
    progress: Progress | None,
) -> tuple[Fraction, Fraction]:
    """Writes the selected frames, scaled and cropped; returns when the last one written and the last one read leave."""
    width, height = buffer.size
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    shown = end = Fraction(0)

    def watched() -> Iterator[TimedFrame[Any]]:
        nonlocal end
        for timed in source.frames(selection.start):
            if progress:
                progress(buffer.count, buffer.capacity)
            end = timed.end
            yield timed

    for timed, repeats in frames_played_at(watched(), selection, source.tolerance):
        pixels = source.pixels(timed.frame, *scaled)
        buffer.add(pixels[top : top + height, left : left + width], repeats)
        shown = timed.end
    return shown, end


def _expected_frames(source: Source, selection: Selection) -> int | None:
    """How many frames there will be at most by the selection and the file's own length, None where that is not known.

    Where every frame is taken the file has to say how many it has: a rate alone may be the tick of a clock.
    """
    wanted, rate = selection.count(), selection.fps
    if not rate and source.frame_count and source.duration:
        rate = source.frame_count / source.duration
        rate = min(rate, source.rate or rate)  # an edit list may leave most of them out
    if not rate or source.duration is None:
        return wanted if wanted is not None and wanted <= FIRST_ROOM else None
    present = selection.count_until(source.duration, rate)
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
