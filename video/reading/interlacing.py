"""Interlaced frames, which hold two moments in alternate lines, as frames of one moment."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace

import av
import av.error

from ..colour import filter_graph
from ..timing import TimedFrame
from .stream import Frames

PLANAR = ("yuv", "gray", "gbr")  # what the filter takes


def deinterlaced(frames: Frames) -> Frames:
    """The frames, with the second moment of those that the stream marks as interlaced replaced by the first."""
    for (interlaced, *_), run in itertools.groupby(frames, _form):
        yield from (_first_fields if interlaced else iter)(run)


def _form(timed: TimedFrame[av.VideoFrame]) -> tuple[bool, int, int, str]:
    frame = timed.frame
    interlaced = frame.interlaced_frame and frame.format.name.startswith(PLANAR)
    return interlaced, frame.width, frame.height, frame.format.name


def _first_fields(frames: Frames) -> Frames:
    """Frames of one size and format through FFmpeg's filter, which looks one frame ahead."""
    waiting: deque[TimedFrame[av.VideoFrame]] = deque()
    graph: av.filter.Graph | None = None
    for timed in frames:
        graph = graph or filter_graph(timed.frame, ("bwdif", "mode=send_frame"))
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
