"""GIFs with one palette made for the whole clip and delays that add up to the frame rate."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from .quantise import Progress, pictures

CENTISECOND = Fraction(1, 100)
SHORTEST = 2  # centiseconds; players slow down anything shorter

# The number of colours and the dithering for low, medium, high and maximum quality.
PALETTES = (
    (64, "bayer:bayer_scale=5"),
    (128, "bayer:bayer_scale=4"),
    (256, "bayer:bayer_scale=4"),
    (256, "sierra2_4a"),
)


def write_gif(
    images: Tensor,
    path: Path,
    *,
    order: list[int],
    fps: Fraction,
    quality: int,
    loop_count: int,
    progress: Progress | None = None,
) -> None:
    """Encodes images [n, height, width, channels] in 0..1 in two passes. `quality` indexes `PALETTES`.

    Frame rates above 50 leave frames out, since a GIF can't be faster. `loop_count` 0 plays for ever.
    """
    times = display_times(len(order), fps)
    shown = [position for position, (time, then) in enumerate(itertools.pairwise(times)) if then > time]
    order = [order[position] for position in shown]
    colours, dither = PALETTES[quality]
    first = second = None
    if progress:
        first, second = (
            (lambda done, total: progress(done, 2 * total)),
            (lambda done, total: progress(total + done, 2 * total)),
        )
    palette = _make_palette(images, order, colours, first)
    options = {"loop": str(_extra_plays(loop_count)), "final_delay": str(times[-1] - times[shown[-1]])}
    with av.open(str(path), "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=100)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "pal8"
        use_palette = _PaletteUse(palette, stream.width, stream.height, dither)
        for position, picture in zip(
            shown, pictures(images, order, alpha=True, progress=second), strict=True
        ):
            frame = use_palette(picture)
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


def _extra_plays(loop_count: int) -> int:
    """The muxer's own number: 0 for ever, -1 once, else how often the clip is played again."""
    return 0 if loop_count == 0 else -1 if loop_count == 1 else loop_count - 1


def _make_palette(images: Tensor, order: list[int], colours: int, progress: Progress | None) -> av.VideoFrame:
    graph = av.filter.Graph()
    height, width = images.shape[1:3]
    source = graph.add_buffer(width=width, height=height, format="rgba", time_base=CENTISECOND)
    transparent = int(images.shape[-1] == 4)
    palette = graph.add("palettegen", f"max_colors={colours}:reserve_transparent={transparent}")
    sink = graph.add("buffersink")
    graph.link_nodes(source, palette, sink).configure()
    for picture in pictures(images, order, alpha=True, progress=progress):
        source.push(av.VideoFrame.from_ndarray(picture, format="rgba"))
    source.push(None)
    return sink.pull()


class _PaletteUse:
    """Maps pictures of one size to the colours of a palette."""

    def __init__(self, palette: av.VideoFrame, width: int, height: int, dither: str) -> None:
        self._graph = graph = av.filter.Graph()
        self._source = graph.add_buffer(width=width, height=height, format="rgba", time_base=CENTISECOND)
        colours = graph.add_buffer(
            width=palette.width, height=palette.height, format=palette.format.name, time_base=CENTISECOND
        )
        mapper = graph.add("paletteuse", f"dither={dither}")
        self._sink = graph.add("buffersink")
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
        return self._sink.pull()
