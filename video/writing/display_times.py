"""When the frames of an animated picture appear, in the whole ticks of its format."""

from __future__ import annotations

import itertools
import logging
import math
from fractions import Fraction

log = logging.getLogger(__name__)


def display_times(frames: int, fps: Fraction, ticks_per_second: int, shortest: int) -> list[int]:
    """When each frame appears and, last, when the clip ends, in ticks.

    Never later than k / fps, so that sampling at the same rate finds every frame again. Where a frame would be shown
    for less than `shortest` ticks several share a time, and only the last of them can be shown.
    """
    tick = 1 if fps * shortest <= ticks_per_second else shortest
    times = [math.floor(k * ticks_per_second / fps / tick) * tick for k in range(frames + 1)]
    times[-1] = max(times[-1], times[-2] + tick)
    return times


def shown(times: list[int], fastest: str) -> list[int]:
    """The positions of the frames that are shown at all; logs a warning where some are not.

    fastest: what the format can do, such as `A gif shows at most 50 frames per second`.
    """
    positions = [position for position, (time, then) in enumerate(itertools.pairwise(times)) if then > time]
    frames = len(times) - 1
    if len(positions) < frames:
        left_out = frames - len(positions)
        log.warning("%s: %d of %d are left out. Lower fps, or use mp4.", fastest, left_out, frames)
    return positions
