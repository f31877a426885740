"""The selected frames of a source as tensors: all in one, or a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..size import Size
from ..timing import Selection
from .container import Limits
from .frame_buffer import FrameBuffer
from .selected_frames import Progress, SelectedFrames
from .source import Source

FIRST_ROOM = 64  # frames, for files that don't say how long they are, or seem to be too long


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
    """Decodes the selected frames of the source, which it closes, into one tensor, allocated before where it can be.

    `progress(done, total)` is called for every source frame and may raise to cancel.
    Raises ValueError when the memory or frame limit would be passed, or when no frame lies in the selection.
    """
    limits = limits or Limits()
    frames = SelectedFrames(source, selection, size, limits)
    buffer = FrameBuffer(source.name, (frames.width, frames.height), limits, dtype, device)
    wanted = selection.count()
    room = frames.expected
    if room is None or (source.duration_is_rough and room > buffer.most):
        room = min(FIRST_ROOM, buffer.most, wanted or FIRST_ROOM)
    buffer.reserve(room)
    for picture, repeats in frames.pictures(progress):
        buffer.add(picture, repeats)
    images, mask = buffer.finish()
    return Clip(images, frames.fps, selection.start, frames.seconds, mask)


def frames_in_chunks(
    frames: SelectedFrames, at_once: int, limits: Limits, progress: Progress | None = None
) -> Iterator[Tensor]:
    """Decodes the selected frames as tensors [n, height, width, 3] in 0..1 of at most `at_once` frames.

    `progress(done, total)` is called for every source frame and may raise to cancel.
    """

    def empty() -> FrameBuffer:
        buffer = FrameBuffer(frames.source.name, (frames.width, frames.height), limits, torch.float32, "cpu")
        buffer.reserve(at_once)
        return buffer

    buffer = empty()
    for picture, repeats in frames.pictures(progress):
        while repeats:
            fitting = min(repeats, at_once - buffer.count)
            buffer.add(picture, fitting)
            repeats -= fitting
            if buffer.count == at_once:
                yield buffer.finish()[0]
                buffer = empty()
    if buffer.count:
        yield buffer.finish()[0]
