"""Animated PNG, composed as its specification says and browsers show it.

Pillow forgets `dispose previous` and pastes half-transparent pixels instead of blending them.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 1000  # before the pixels; real files have a few
MOST_FRAMES = 100_000  # whose delays are read in advance
CONTROL_BYTES = 26
DISPOSE_BACKGROUND, DISPOSE_PREVIOUS = 1, 2
BLEND_OVER = 1
USED = (b"IHDR", b"PLTE", b"tRNS", b"fcTL", b"IDAT", b"fdAT", b"IEND")  # kinds of chunks

Chunk = tuple[bytes, bytes]


@dataclass(frozen=True)
class Control:
    """The frame control chunk: where a frame lies on the canvas, for how long (seconds), and how it is drawn."""

    width: int
    height: int
    left: int
    top: int
    delay: Fraction
    dispose: int
    blend: int

    @classmethod
    def parse(cls, data: bytes) -> Control:
        """From the chunk's data; raises struct.error when it is cut off."""
        _, width, height, left, top, delay, per_second, dispose, blend = struct.unpack(">IIIIIHHBB", data)
        return cls(width, height, left, top, Fraction(delay, per_second or 100), dispose, blend)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def is_animated_png(file: BinaryIO) -> bool:
    """Whether a PNG says before its first pixels that it is animated."""
    file.seek(len(SIGNATURE))
    for _ in range(MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IDAT":
            return False
        if head[4:] == b"acTL":
            return True
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return False


def apng_delays(file: BinaryIO) -> list[Fraction]:
    """How long each frame is shown (seconds) by the control chunks, which are read alone; none for a still."""
    if not is_animated_png(file):
        return []
    delays: list[Fraction] = []
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8 and len(delays) < MOST_FRAMES:
        length = int.from_bytes(head[:4], "big")
        data = file.read(CONTROL_BYTES) if head[4:] == b"fcTL" else b""
        if len(data) == CONTROL_BYTES:
            delays.append(Control.parse(data).delay)
        file.seek(length + 4 - len(data), io.SEEK_CUR)
    return delays


def png_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the canvas; raises ValueError when the file is damaged."""
    file.seek(0)
    kind, data = next(_chunks(file))
    if kind != b"IHDR" or len(data) != 13:
        raise ValueError("The header of the PNG is damaged.")
    width, height = struct.unpack(">II", data[:8])
    return width, height


def apng_frames(file: BinaryIO) -> Iterator[tuple[Fraction, Image.Image]]:
    """Yields how long each frame is shown (seconds) and the whole canvas in RGBA.

    Raises ValueError, OSError or struct.error where the file is damaged.
    """
    canvas = Image.new("RGBA", png_size(file))
    for control, picture in _pictures(file):
        before = canvas.crop(control.box)
        over = control.blend == BLEND_OVER
        canvas.paste(Image.alpha_composite(before, picture) if over else picture, control.box)
        yield control.delay, canvas.copy()
        if control.dispose == DISPOSE_BACKGROUND:
            canvas.paste((0, 0, 0, 0), control.box)
        elif control.dispose == DISPOSE_PREVIOUS:
            canvas.paste(before, control.box)


def _pictures(file: BinaryIO) -> Iterator[tuple[Control, Image.Image]]:
    """The frames by themselves. A picture before the first control chunk is for programs that don't animate."""
    header, shared = b"", list[Chunk]()
    width, height = png_size(file)
    still = Control(width, height, 0, 0, Fraction(0), 0, 0)
    control = None if apng_delays(file) else still
    for kind, group in itertools.groupby(_chunks(file), lambda chunk: chunk[0]):
        first = next(group)[1]
        if kind == b"IHDR":
            header = first
        elif kind in (b"PLTE", b"tRNS"):
            shared.append((kind, first))
        elif kind == b"fcTL":
            control = Control.parse(first)
            if control.box[2] > width or control.box[3] > height:
                raise ValueError("A frame reaches over the edge of the picture.")
        elif kind in (b"IDAT", b"fdAT") and control is not None:
            skipped = 4 if kind == b"fdAT" else 0  # the sequence number
            pixels = b"".join([first[skipped:], *(data[skipped:] for _, data in group)])
            size = struct.pack(">II", control.width, control.height)
            yield (
                control,
                _decoded([(b"IHDR", size + header[8:]), *shared, (b"IDAT", pixels), (b"IEND", b"")]),
            )
            control = None


def _decoded(chunks: list[Chunk]) -> Image.Image:
    """A still PNG of those chunks, in RGBA with 8 bits."""
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return eight_bits(Image.open(io.BytesIO(SIGNATURE + b"".join(parts)), formats=("PNG",))).convert("RGBA")


def eight_bits(picture: Image.Image) -> Image.Image:
    """A picture with 8 bits a channel. Pillow cuts 16-bit greys off at 255 and reads a transparent colour's low bytes."""
    key = picture.info.get("transparency")
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        grey = Image.fromarray((values // 257).astype(np.uint8))
        if key is not None:
            grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
        return grey
    if isinstance(key, tuple) and max(key) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    return picture


def _chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Kind and data of each chunk that is used.

    Where a checksum is wrong or the end is missing, an empty one closes the frame before, then ValueError is raised.
    """
    file.seek(len(SIGNATURE))
    kind = b""
    while kind != b"IEND":
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) == 8 and kind not in USED:  # texts and the like, damaged or not
            file.seek(length + 4, io.SEEK_CUR)
            continue
        data, checksum = file.read(length), file.read(4)
        if len(checksum) < 4 or zlib.crc32(kind + data) != int.from_bytes(checksum, "big"):
            yield b"", b""
            raise ValueError(f"The chunk {kind!r} is damaged.")
        yield kind, data
