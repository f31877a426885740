"""Which source frames are taken: the one on screen at each target time, in exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic, TypeVar

T = TypeVar("T")

# Matroska and WebM store whole milliseconds, so a time stamp may be half a millisecond late.
TOLERANCE = Fraction(1, 2000)


def animation_delay(seconds: Fraction) -> Fraction:
    """How long a frame of an animated picture is shown: browsers turn up to 10 ms into 100 ms."""
    return seconds if seconds > Fraction(1, 100) else Fraction(1, 10)


def mean_rate(delays: Sequence[Fraction]) -> Fraction:
    """Frames per second of an animation whose frames are shown for so many seconds each."""
    return (len(delays) / sum(delays, Fraction(0))).limit_denominator(1001)


def exact_seconds(seconds: float) -> Fraction:
    """The decimal number a person typed, as an exact fraction: 1.1 is 11/10. Raises ValueError for one not finite."""
    if not math.isfinite(seconds):
        raise ValueError(f"Seconds must be a finite number, not {seconds:g}.")
    return Fraction(str(seconds))


def exact_rate(fps: float) -> Fraction:
    """A frame rate as a fraction; floats of NTSC rates come back as n/1001.

    Raises ValueError for one that is not finite, or so low that it would come back as 0.
    """
    if not math.isfinite(fps):
        raise ValueError(f"fps must be a finite number, not {fps:g}.")
    rate = Fraction(fps).limit_denominator(1001)
    if fps and not rate:
        raise ValueError(f"fps must be above 0.0005, not {fps:g}.")
    return rate


@dataclass(frozen=True)
class TimedFrame(Generic[T]):
    """A source frame, its time after the first frame and how long it is shown; both in seconds."""

    pts_seconds: Fraction
    duration_seconds: Fraction
    frame: T

    @property
    def end(self) -> Fraction:
        """When the frame leaves the screen."""
        return self.pts_seconds + self.duration_seconds


@dataclass(frozen=True)
class Selection:
    """Targets `start + k / fps` for all k with `k / fps < seconds`.

    `fps` 0 takes every source frame, `seconds` 0 goes on to the end, `max_frames` 0 is no cap.
    """

    fps: Fraction
    seconds: Fraction = Fraction(0)
    start: Fraction = Fraction(0)
    max_frames: int = 0

    def __post_init__(self) -> None:
        seconds = (("first_n_seconds", self.seconds), ("start_seconds", self.start))
        for name, value in (("fps", self.fps), *seconds, ("max_frames", Fraction(self.max_frames))):
            if value < 0:
                raise ValueError(f"{name} must not be negative, but is {float(value):g}.")

    def count(self) -> int | None:
        """The number of targets, or None when only the end of the video decides."""
        wanted = math.ceil(self.seconds * self.fps) if self.seconds and self.fps else None
        if not self.max_frames:
            return wanted
        return self.max_frames if wanted is None else min(wanted, self.max_frames)

    def count_until(self, duration: Fraction, rate: Fraction) -> int:
        """The number of frames expected at that rate (frames per second) from a video of that duration (seconds)."""
        span = max(duration - self.start, Fraction(0))
        if self.seconds:
            span = min(span, self.seconds)
        # Where every frame is taken, the first one is that on screen at the start.
        frames = (
            math.ceil(span * rate)
            if self.fps
            else math.ceil((self.start + span) * rate) - math.floor(self.start * rate)
        )
        return min(frames, self.max_frames) if self.max_frames else frames


def frames_played_at(
    frames: Iterable[TimedFrame[T]], selection: Selection, tolerance: Fraction = TOLERANCE
) -> Iterator[tuple[TimedFrame[T], int]]:
    """Yields each frame that is wanted, with how often it is taken, and stops reading after the last.

    The duration it comes with is how long it stays on screen, until the next frame. `frames` come in the order of
    presentation and may begin before `selection.start`; of several at one time the last is on screen. `tolerance`
    (seconds) is how much later than its target a frame may appear: half a tick of the file's clock.
    """
    pick = _at_targets if selection.fps else _every_frame
    yield from pick(frames, selection, tolerance)


def _until_next(frames: Iterable[TimedFrame[T]]) -> Iterator[TimedFrame[T]]:
    """Each frame with the time until the next one as its duration."""
    previous = None
    for frame in frames:
        if previous is not None:
            yield replace(previous, duration_seconds=frame.pts_seconds - previous.pts_seconds)
        previous = frame
    if previous is not None:
        yield previous


def _at_targets(
    frames: Iterable[TimedFrame[T]], selection: Selection, tolerance: Fraction
) -> Iterator[tuple[TimedFrame[T], int]]:
    total = selection.count()
    done = 0
    for frame in _until_next(frames):
        served = max(0, math.ceil((frame.end - selection.start - tolerance) * selection.fps))
        if total is not None:
            served = min(served, total)
        if served > done:
            yield frame, served - done
            done = served
        if done == total:
            return


def _every_frame(
    frames: Iterable[TimedFrame[T]], selection: Selection, tolerance: Fraction
) -> Iterator[tuple[TimedFrame[T], int]]:
    end = selection.start + selection.seconds if selection.seconds else None
    done = 0
    for frame in _until_next(frames):
        if end is not None and frame.pts_seconds > selection.start and frame.pts_seconds + tolerance >= end:
            return
        if frame.pts_seconds >= selection.start or frame.end > selection.start + tolerance:
            yield frame, 1
            done += 1
        if done == selection.max_frames and done:
            return
