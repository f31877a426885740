"""Animated WebP and PNG, which FFmpeg does not decode, through Pillow."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..timing import TOLERANCE, TimedFrame, animation_delay
from .container import File, Limits

HEAD = 21  # bytes, up to the flags of a WebP
MOST_CHUNKS = 1000  # of a PNG; real ones have a few before their pixels
PNG, RIFF, WEBP = b"\x89PNG\r\n\x1a\n", b"RIFF", b"WEBP"
WEBP_ANIMATION = 0x02


def file_head(file: File) -> bytes:
    """The first bytes of a file or buffer."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:HEAD]
    with open(file, "rb") as opened:
        return opened.read(HEAD)


def is_image(head: bytes) -> bool:
    """Whether the first bytes are those of a PNG or WebP."""
    return head.startswith(PNG) or (head.startswith(RIFF) and head[8:12] == WEBP)


def is_animated_image(path: str) -> bool:
    """Whether a file is a PNG or WebP with more than one frame; False when it can't be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            if head.startswith(PNG):
                return _has_animation_chunk(file)
    except OSError:
        return False
    return is_image(head) and head[12:16] == b"VP8X" and len(head) == HEAD and bool(head[20] & WEBP_ANIMATION)


def _has_animation_chunk(png: BinaryIO) -> bool:
    """Looks through the chunks before the first pixels."""
    png.seek(len(PNG))
    for _ in range(MOST_CHUNKS):
        head = png.read(8)
        if len(head) < 8 or head[4:] == b"IDAT":
            return False
        if head[4:] == b"acTL":
            return True
        png.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


class AnimatedImageSource:
    """The frames of an animated WebP or PNG; `duration` is known only after the last frame."""

    duration: Fraction | None = None
    tolerance = TOLERANCE

    def __init__(self, file: File, name: str, limits: Limits | None = None) -> None:
        self.name, self.damaged = name, False
        limits = limits or Limits()
        try:
            self._image = Image.open(file, formats=("PNG", "WEBP"))
        except Image.DecompressionBombError as error:
            raise ValueError(
                f"{name} is larger than the limit of {limits.max_pixels:,} pixels in a frame."
            ) from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"{name} could not be opened as an animation. It may be empty, cut off or damaged."
            ) from error
        self.width, self.height = self._image.size
        limits.check_pixels(name, self.width, self.height)
        self.count = getattr(self._image, "n_frames", 1)
        self.has_alpha = self._image.mode in ("RGBA", "LA", "PA") or "transparency" in self._image.info
        self.rate: Fraction | None = None

    def __enter__(self) -> AnimatedImageSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._image.close()

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame[Image.Image]]:
        """Yields all frames in order; they build on each other, so there is nothing to skip."""
        time = Fraction(0)
        still = 1 if self._image.info.get("default_image") and self.count > 1 else 0
        for index in range(still, self.count):
            try:
                self._image.seek(index)
                self._image.load()
            except (OSError, EOFError, SyntaxError, ValueError):
                self.damaged = True
                return
            duration = animation_delay(Fraction(self._image.info.get("duration") or 0) / 1000)
            yield TimedFrame(time, duration, self._image.copy())
            time += duration

    def pixels(self, frame: Image.Image, width: int, height: int) -> np.ndarray:
        """The frame scaled to width x height, uint8 [height, width, 3], or 4 with premultiplied alpha."""
        picture = frame.convert("RGBA").convert("RGBa") if self.has_alpha else _rgb(frame)
        if picture.size != (width, height):
            smaller = width * height < picture.width * picture.height
            picture = picture.resize(
                (width, height), Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
            )
        return np.array(picture)

    def audio(self, start: Fraction, seconds: Fraction) -> None:
        """Animated pictures have no sound."""
        return None


def _rgb(frame: Image.Image) -> Image.Image:
    if frame.mode.startswith("I"):  # 16-bit greys, which Pillow would cut off at 255
        frame = Image.fromarray((np.asarray(frame) // 257).astype(np.uint8))
    return frame.convert("RGB")
