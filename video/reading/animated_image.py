"""Animated WebP and PNG, whose frames FFmpeg does not compose."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..timing import TimedFrame, animation_delay, mean_rate
from .apng import MOST_FRAMES, SIGNATURE, apng_delays, apng_frames, is_animated_png, png_size
from .container import HEAD, File, Limits
from .source import Source

RIFF, WEBP = b"RIFF", b"WEBP"
WEBP_ANIMATION = 0x02
RIFF_HEAD, FRAME_HEAD = 12, 16  # bytes
STILLS = (b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")  # JPEG, BMP and TIFF
STILL_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
OPAQUE = (255, 255)  # the extremes of alpha


def is_image(head: bytes) -> bool:
    """Whether the first bytes are those of a PNG or WebP."""
    return head.startswith(SIGNATURE) or (head.startswith(RIFF) and head[8:12] == WEBP)


def is_animated_image(path: str) -> bool:
    """Whether a file is an animated PNG or WebP; False when it can't be read."""
    try:
        with open(path, "rb") as file:
            return _is_animated(file)
    except OSError:
        return False


def is_still_image(path: str) -> bool:
    """Whether a file is a picture that does not move, by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
        file.seek(0)
        still = head.startswith(STILLS) or (head[4:8] == b"ftyp" and head[8:12] in STILL_BRANDS)
        return still or (is_image(head) and not _is_animated(file))


def _is_animated(file: BinaryIO) -> bool:
    head = file.read(HEAD)
    if head.startswith(SIGNATURE):
        return is_animated_png(file)
    return is_image(head) and head[12:16] == b"VP8X" and len(head) == HEAD and bool(head[20] & WEBP_ANIMATION)


class AnimatedImageSource(Source):
    """The frames of an animated WebP or PNG, one of a still."""

    def __init__(self, file: File, name: str, limits: Limits) -> None:
        self.name = name
        self._file: BinaryIO = (
            io.BytesIO(file.getvalue()) if isinstance(file, io.BytesIO) else open(file, "rb")
        )
        try:
            self.width, self.height = self._open(limits)
            delays = (apng_delays if self._webp is None else webp_delays)(self._file) or [Fraction(0)]
        except BaseException:
            self._file.close()
            raise
        shown = [animation_delay(delay) for delay in delays]
        self.frame_count, self.duration, self.rate = len(shown), sum(shown, Fraction(0)), mean_rate(shown)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame[Image.Image]]:
        """Yields all frames in order; they build on each other, so there is nothing to skip."""
        time = Fraction(0)
        try:
            for delay, picture in self._pictures():
                duration = animation_delay(delay)
                yield TimedFrame(time, duration, picture)
                time += duration
        except (OSError, EOFError, SyntaxError, ValueError, struct.error):
            self.damaged = True

    def pixels(self, frame: Image.Image, width: int, height: int) -> np.ndarray:
        """The frame scaled to width x height, uint8 [height, width, 3], or 4 with premultiplied alpha."""
        return scaled_picture(frame, width, height)

    def _open(self, limits: Limits) -> tuple[int, int]:
        """Width and height of the canvas."""
        self._webp: Image.Image | None = None
        try:
            if self._is_png():
                size = png_size(self._file)
            else:
                self._webp = Image.open(self._file, formats=("WEBP",))
                size = self._webp.size
        except Image.DecompressionBombError as error:
            raise too_large(self.name, limits) from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"{self.name} could not be opened as an animation. It may be empty, cut off or damaged."
            ) from error
        limits.check_pixels(self.name, *size)
        return size

    def _is_png(self) -> bool:
        self._file.seek(0)
        return self._file.read(len(SIGNATURE)) == SIGNATURE

    def _pictures(self) -> Iterator[tuple[Fraction, Image.Image]]:
        """How long each frame is shown, in seconds, and the frame."""
        if self._webp is None:
            yield from apng_frames(self._file)
            return
        for index in range(getattr(self._webp, "n_frames", 1)):
            self._webp.seek(index)
            self._webp.load()
            yield Fraction(self._webp.info.get("duration") or 0) / 1000, self._webp.copy()


def too_large(name: str, limits: Limits) -> ValueError:
    """The error for a picture that Pillow won't even open."""
    return ValueError(
        f"{name} is larger than the limit of {limits.max_pixels:,} pixels in a frame. Scale it down first."
    )


def scaled_picture(picture: Image.Image, width: int, height: int) -> np.ndarray:
    """A picture scaled to width x height, uint8 [height, width, 3], or 4 with premultiplied alpha."""
    rgba = picture.convert("RGBA") if picture.has_transparency_data else None
    opaque = rgba is None or rgba.getchannel("A").getextrema() == OPAQUE
    picture = picture.convert("RGB") if rgba is None or opaque else rgba.convert("RGBa")
    if picture.size != (width, height):
        smaller = width * height < picture.width * picture.height
        picture = picture.resize(
            (width, height), Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
        )
    return np.array(picture)


def webp_delays(file: BinaryIO) -> list[Fraction]:
    """How long each frame is shown (seconds) by the heads of the frames, which are read alone; none for a still."""
    delays: list[Fraction] = []
    before = file.tell()
    file.seek(RIFF_HEAD)
    while len(head := file.read(8)) == 8 and len(delays) < MOST_FRAMES:
        length = int.from_bytes(head[4:], "little")
        data = file.read(FRAME_HEAD) if head[:4] == b"ANMF" else b""
        if len(data) == FRAME_HEAD:
            delays.append(Fraction(int.from_bytes(data[12:15], "little"), 1000))
        file.seek(length + length % 2 - len(data), io.SEEK_CUR)
    file.seek(before)
    return delays
