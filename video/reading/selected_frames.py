"""The frames of a source that a selection takes, scaled and cropped, one at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor

from ..size import Size, cover, target_size
from ..timing import Selection, TimedFrame, frames_played_at
from .container import Limits
from .source import Source

Progress = Callable[[int, int], None]
Pixels = np.ndarray | Tensor
EARLY = Fraction(1, 2)  # seconds of a file that may be missing at its end without a word


class SelectedFrames:
    """Iterates once over the wanted frames, each with how often it is taken, and then closes the source.

    `width` and `height` are those of the frames. `expected` is their number by the selection and by what the file says
    of itself, None where it says nothing. `count`, `fps` and `seconds` (the rate and
    length of what was taken) are known after the last frame.

    Raises ValueError for a size that the source can't be scaled to, and after the last frame when none was taken.
    """

    def __init__(self, source: Source, selection: Selection, size: Size, limits: Limits) -> None:
        self.source, self.selection = source, selection
        self.width, self.height = target_size(size, source.width, source.height)
        self._scaled = cover(source.width, source.height, (self.width, self.height))
        if self._scaled[0] * self._scaled[1] > limits.max_pixels:
            raise ValueError(
                f"{source.name} is too long and thin: {source.width}x{source.height} would have to be scaled to "
                f"{self._scaled[0]}x{self._scaled[1]} to fill {self.width}x{self.height}. Crop it first, or choose "
                "size source."
            )
        self.expected = self._expected()
        self.count = 0
        self._shown = self._end = Fraction(
            0
        )  # when the last frame taken, and the last one read, leave the screen

    def pictures(self, progress: Progress | None = None) -> Iterator[tuple[Pixels, int]]:
        """Yields uint8 or a tensor in 0..1, [height, width, 3], or 4 with premultiplied alpha.

        `progress(done, total)` is called for every source frame and may raise to cancel.
        """
        left, top = (self._scaled[0] - self.width) // 2, (self._scaled[1] - self.height) // 2
        wanted = frames_played_at(self._watched(progress), self.selection, self.source.tolerance)
        for timed, repeats in wanted:
            pixels = self.source.pixels(timed.frame, *self._scaled)
            self.count += repeats
            self._shown = timed.end
            yield pixels[top : top + self.height, left : left + self.width], repeats
        self.source.close()
        self._check()
        if progress:
            progress(self.count, self.count)

    @property
    def seconds(self) -> Fraction:
        """How long the frames that were taken play."""
        if self.selection.fps:
            return self.count / self.selection.fps
        seconds = self._shown - self.selection.start
        return min(seconds, self.selection.seconds) if self.selection.seconds else seconds

    @property
    def fps(self) -> Fraction:
        """The rate asked for; else the source's own when the frames bear it out, else their mean."""
        nominal = self.source.rate
        if self.selection.fps:
            return self.selection.fps
        if nominal and abs(self.count - nominal * self.seconds) <= 1:
            return nominal
        return (self.count / self.seconds).limit_denominator(1001)

    def _watched(self, progress: Progress | None) -> Iterator[TimedFrame[Any]]:
        for timed in self.source.frames(self.selection.start):
            if progress:
                progress(self.count, max(self.count, self.expected or 0))
            self._end = timed.end
            yield timed

    def _expected(self) -> int | None:
        """Where every frame is taken the file has to say how many it has: a rate alone may be the tick of a clock."""
        source, wanted, rate = self.source, self.selection.count(), self.selection.fps
        if not rate and source.frame_count and source.duration:
            rate = source.frame_count / source.duration
            rate = min(rate, source.rate or rate)  # an edit list may leave most of them out
        if not rate or source.duration is None:
            return None
        present = self.selection.count_until(source.duration, rate)
        return max(1, present if wanted is None else min(wanted, present))

    def _check(self) -> None:
        name, wanted = self.source.name, self.selection.count()
        if not self._end:
            raise ValueError(f"{name} has no frame that can be decoded. Save or download the video again.")
        if not self.count:
            raise ValueError(
                f"{name} has no frame after {float(self.selection.start):g} s: it is {float(self._end):g} s long. "
                "Lower start_seconds."
            )
        claimed = None if self.source.duration_is_rough else self.source.duration
        missing = claimed is not None and claimed - self._end > EARLY
        end = self.selection.start + self.selection.seconds
        satisfied = self.count == wanted or (self.selection.seconds and self._end >= end)
        if not satisfied and (missing or self.source.damaged):
            logging.getLogger(__name__).warning(
                "%s is damaged or cut off: it ends after %.1f s. Frames up to there are used: %d.",
                name,
                float(self._end),
                self.count,
            )
