"""What a clip is and what a selection would take of it, told from its head alone."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..size import Size
from ..timing import Selection
from .container import Limits
from .selected_frames import SelectedFrames
from .source import Source


@dataclass(frozen=True)
class ClipDescription:
    """A source (seconds, pixels, frames per second) and the frames that are taken of it.

    None stands for what the file does not say. `frames` is their number by what it says.
    """

    name: str
    duration: Fraction | None
    width: int
    height: int
    rate: Fraction | None
    has_sound: bool
    frames: int | None
    fps: Fraction | None
    frame_width: int
    frame_height: int


def describe_clip(source: Source, selection: Selection, size: Size) -> ClipDescription:
    """Describes an open source without decoding on.

    Raises ValueError for a size that the source can't be scaled to.
    """
    taken = SelectedFrames(source, selection, size, Limits())
    rate = source.rate
    if rate is None and source.frame_count and source.duration:
        rate = (source.frame_count / source.duration).limit_denominator(1001)
    return ClipDescription(
        name=source.name,
        duration=source.duration,
        width=source.width,
        height=source.height,
        rate=rate,
        has_sound=source.audio(Fraction(0), Fraction(1)) is not None,
        frames=selection.count() if taken.expected is None else taken.expected,
        fps=selection.fps or rate,
        frame_width=taken.width,
        frame_height=taken.height,
    )
