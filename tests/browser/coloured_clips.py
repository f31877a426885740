"""Small clips of one colour with something that moves in front of it, in any format that people have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}  # mpeg4 elsewhere, which browsers don't play
WIDTH, HEIGHT, FPS, FRAMES = 96, 64, 25, 25


def pictures(colour: Colour) -> Iterator[Image.Image]:
    for number in range(FRAMES):
        picture = Image.new("RGB", (WIDTH, HEIGHT), colour)
        ImageDraw.Draw(picture).ellipse((2 * number, 24, 2 * number + 20, 44), fill="white")
        yield picture


def write_coloured(path: Path, colour: Colour) -> Path:
    """Writes one second of a clip, as the extension of its name says."""
    if path.suffix in (".gif", ".webp", ".png", ".apng"):
        first, *rest = pictures(colour)
        kind = "PNG" if path.suffix == ".apng" else None
        first.save(path, kind, save_all=True, append_images=rest, duration=1000 // FPS, loop=0)
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS.get(path.suffix, "mpeg4"), rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures(colour):
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path
