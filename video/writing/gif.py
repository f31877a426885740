"""GIFs with palettes made for the clip and delays that add up to the frame rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av

from ..frames import Frames, Progress, half_of, uint8_frames
from .display_times import display_times, shown

CENTISECOND = Fraction(1, 100)
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

    Above 50 frames per second, frames are left out, since a GIF can't play faster. `loop_count` 0 plays for ever.
    """
    times = display_times(len(order), fps, 100, SHORTEST)
    positions = shown(times, "A gif shows at most 50 frames per second")
    order = [order[position] for position in positions]
    options = {"loop": str(_muxer_loop(loop_count)), "final_delay": str(times[-1] - times[positions[-1]])}
    with av.open(str(path), "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=100)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "pal8"
        stream.codec_context.time_base = CENTISECOND
        for position, frame in zip(
            positions, _mapped(images, order, PALETTES[quality], progress), strict=True
        ):
            frame.pts, frame.time_base = times[position], CENTISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _muxer_loop(loop_count: int) -> int:
    """The muxer's own number: 0 for ever, -1 once, else how often the clip is played again."""
    return 0 if loop_count == 0 else -1 if loop_count == 1 else loop_count - 1


def _mapped(
    images: Frames, order: list[int], palette: Palette, progress: Progress | None
) -> Iterator[av.VideoFrame]:
    """The frames in the colours of their palette; one palette for all of them takes a first pass of its own."""

    height, width, channels = images.shape[1:]
    blank = av.VideoFrame(width, height, "rgba" if channels == 4 else "rgb24")

    def pictures(progress: Progress | None) -> Iterator[av.VideoFrame]:
        for picture in uint8_frames(images, order, alpha=channels == 4, progress=progress):
            yield av.VideoFrame.from_ndarray(picture, format=blank.format.name)

    if palette.per_frame:
        for picture in pictures(progress):
            yield _PaletteUse(_make_palette([picture], blank, palette.colours), blank, palette.dither)(
                picture
            )
        return
    halves = [progress and half_of(progress, half) for half in (0, 1)]
    colours = _make_palette(pictures(halves[0]), blank, palette.colours)
    yield from map(_PaletteUse(colours, blank, palette.dither), pictures(halves[1]))


def _make_palette(pictures: Iterable[av.VideoFrame], blank: av.VideoFrame, colours: int) -> av.VideoFrame:
    """The colours that suit pictures like `blank` best, one of them transparent where the pictures may be."""
    graph = av.filter.Graph()
    source, sink = _buffer(graph, blank), graph.add("buffersink")
    transparent = int(blank.format.name == "rgba")
    palette = graph.add("palettegen", f"max_colors={colours}:reserve_transparent={transparent}")
    graph.link_nodes(source, palette, sink).configure()
    for picture in pictures:
        source.push(picture)
    source.push(None)
    return cast(av.VideoFrame, sink.pull())


def _buffer(graph: av.filter.Graph, frame: av.VideoFrame) -> av.filter.context.FilterContext:
    """Where frames like this one enter a graph."""
    return graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=CENTISECOND
    )


class _PaletteUse:
    """Maps pictures like `blank` to the colours of a palette."""

    def __init__(self, palette: av.VideoFrame, blank: av.VideoFrame, dither: str) -> None:
        self._graph = graph = av.filter.Graph()
        self._source, self._sink = _buffer(graph, blank), graph.add("buffersink")
        colours, mapper = _buffer(graph, palette), graph.add("paletteuse", f"dither={dither}")
        self._source.link_to(mapper, 0, 0)
        colours.link_to(mapper, 0, 1)
        mapper.link_to(self._sink)
        graph.configure()
        colours.push(palette)
        colours.push(None)
        self._count = 0

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        picture.pts, picture.time_base = self._count, CENTISECOND
        self._count += 1
        self._source.push(picture)
        return cast(av.VideoFrame, self._sink.pull())
