"""GIFs with palettes made for the clip and delays that add up to the frame rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from ..frames import Frames, Progress, half_of, uint8_frames

CENTISECOND = Fraction(1, 100)
RGBA = av.VideoFormat("rgba")
SHORTEST = 2  # centiseconds; players slow down anything shorter


@dataclass(frozen=True)
class Palette:
    """How many colours, how those in between are dithered, and whether every frame gets colours of its own."""

    colours: int
    dither: str
    per_frame: bool = False


# For low, medium, high and maximum quality.
PALETTES = (
    Palette(64, "bayer:bayer_scale=5"),
    Palette(128, "bayer:bayer_scale=4"),
    Palette(256, "bayer:bayer_scale=4"),
    Palette(256, "sierra2_4a", per_frame=True),
)


def write_gif(
    images: Frames,
    path: Path,
    *,
    order: list[int],
    fps: Fraction,
    quality: int,
    loop_count: int,
    progress: Progress | None = None,
) -> None:
    """Encodes images [n, height, width, channels] in 0..1. `quality` indexes `PALETTES`.

    Frame rates above 50 leave frames out, since a GIF can't be faster. `loop_count` 0 plays for ever.
    """
    times = display_times(len(order), fps)
    shown = [position for position, (time, then) in enumerate(itertools.pairwise(times)) if then > time]
    order = [order[position] for position in shown]
    options = {"loop": str(_muxer_loop(loop_count)), "final_delay": str(times[-1] - times[shown[-1]])}
    with av.open(str(path), "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=100)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "pal8"
        stream.codec_context.time_base = CENTISECOND
        for position, frame in zip(shown, _mapped(images, order, PALETTES[quality], progress), strict=True):
            frame.pts, frame.time_base = times[position], CENTISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def display_times(frames: int, fps: Fraction) -> list[int]:
    """When each frame appears and, last, when the clip ends, in centiseconds.

    Never later than k / fps, so that sampling at the same rate finds every frame again. Above 50 frames per second
    several share a time, and only the last of them can be shown.
    """
    tick = 1 if fps * SHORTEST <= 100 else SHORTEST
    times = [math.floor(k * 100 / fps / tick) * tick for k in range(frames + 1)]
    times[-1] = max(times[-1], times[-2] + tick)
    return times


def _muxer_loop(loop_count: int) -> int:
    """The muxer's own number: 0 for ever, -1 once, else how often the clip is played again."""
    return 0 if loop_count == 0 else -1 if loop_count == 1 else loop_count - 1


def _mapped(
    images: Frames, order: list[int], palette: Palette, progress: Progress | None
) -> Iterator[av.VideoFrame]:
    """The frames in the colours of their palette; one palette for all of them takes a first pass of its own."""
    transparent = images.shape[-1] == 4
    if palette.per_frame:
        for picture in uint8_frames(images, order, alpha=True, progress=progress):
            colours = _make_palette([picture], picture.shape, palette.colours, transparent)
            yield _PaletteUse(colours, picture.shape, palette.dither)(picture)
        return
    halves = [progress and half_of(progress, half) for half in (0, 1)]
    everything = uint8_frames(images, order, alpha=True, progress=halves[0])
    colours = _make_palette(everything, images.shape[1:], palette.colours, transparent)
    use_palette = _PaletteUse(colours, images.shape[1:], palette.dither)
    yield from map(use_palette, uint8_frames(images, order, alpha=True, progress=halves[1]))


def _make_palette(
    shown: Iterable[np.ndarray], shape: Sequence[int], colours: int, transparent: bool
) -> av.VideoFrame:
    graph = av.filter.Graph()
    source, sink = _rgba_buffer(graph, shape), graph.add("buffersink")
    palette = graph.add("palettegen", f"max_colors={colours}:reserve_transparent={int(transparent)}")
    graph.link_nodes(source, palette, sink).configure()
    for picture in shown:
        source.push(av.VideoFrame.from_ndarray(picture, format="rgba"))
    source.push(None)
    return cast(av.VideoFrame, sink.pull())


def _rgba_buffer(graph: av.filter.Graph, shape: Sequence[int]) -> av.filter.context.FilterContext:
    return graph.add_buffer(width=shape[1], height=shape[0], format=RGBA, time_base=CENTISECOND)


class _PaletteUse:
    """Maps pictures of one size to the colours of a palette."""

    def __init__(self, palette: av.VideoFrame, shape: Sequence[int], dither: str) -> None:
        self._graph = graph = av.filter.Graph()
        self._source, self._sink = _rgba_buffer(graph, shape), graph.add("buffersink")
        colours = graph.add_buffer(
            width=palette.width, height=palette.height, format=palette.format, time_base=CENTISECOND
        )
        mapper = graph.add("paletteuse", f"dither={dither}")
        self._source.link_to(mapper, 0, 0)
        colours.link_to(mapper, 0, 1)
        mapper.link_to(self._sink)
        graph.configure()
        colours.push(palette)
        colours.push(None)
        self._count = 0

    def __call__(self, picture: np.ndarray) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(picture, format="rgba")
        frame.pts, frame.time_base = self._count, CENTISECOND
        self._count += 1
        self._source.push(frame)
        return cast(av.VideoFrame, self._sink.pull())
