"""Interlaced frames, which hold two moments in alternate lines, as frames of one moment."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace

import av
import av.error

from ..colour import filter_graph, untagging
from ..timing import TimedFrame
from .stream import Frames

SMALLEST = 3, 4  # columns and lines of the smallest plane that the filter takes


def deinterlaced(frames: Frames) -> Frames:
    """The frames, with the second moment of those that the stream marks as interlaced replaced by the first."""
    for (interlaced, *_), run in itertools.groupby(frames, _form):
        yield from (_first_fields if interlaced else iter)(run)


def _form(timed: TimedFrame[av.VideoFrame]) -> tuple[bool, int, int, str, int]:
    frame, kind = timed.frame, timed.frame.format
    width, height = kind.chroma_width(frame.width), kind.chroma_height(frame.height)
    interlaced = frame.interlaced_frame and width >= SMALLEST[0] and height >= SMALLEST[1]
    return interlaced, frame.width, frame.height, kind.name, int(frame.colorspace)


def _first_fields(frames: Frames) -> Frames:
    """Frames of one size and format through FFmpeg's filter, which looks one frame ahead.

    It takes planes; FFmpeg turns packed frames into those with its scaler, which must not see their tags.
    """
    waiting: deque[TimedFrame[av.VideoFrame]] = deque()
    graph: av.filter.Graph | None = None
    for timed in frames:
        if graph is None:
            matrix = ("setparams", f"colorspace={int(timed.frame.colorspace)}")
            graph = filter_graph(timed.frame, untagging(timed.frame), ("bwdif", "mode=send_frame"), matrix)
        waiting.append(timed)
        graph.vpush(timed.frame)
        yield from _filtered(graph, waiting)
    if graph is not None:
        graph.vpush(None)
        yield from _filtered(graph, waiting)


def _filtered(graph: av.filter.Graph, waiting: deque[TimedFrame[av.VideoFrame]]) -> Frames:
    while waiting:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield replace(waiting.popleft(), frame=frame)
