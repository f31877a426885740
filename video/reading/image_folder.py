"""A folder of numbered pictures as a clip."""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction

import numpy as np
from PIL import Image, ImageOps

from ..timing import TimedFrame
from .animated_image import scaled_picture, too_large
from .apng import eight_bits
from .container import Limits
from .source import Source

EXTENSIONS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
NUMBER = re.compile(r"\d+")


def numbered_pictures(names: Iterable[str]) -> list[str]:
    """The file names that are those of pictures and hold a number, in the order of their numbers: 9 before 10.

    Hidden files are left out: macOS puts a `._0001.png`, which is no picture, beside each one on a foreign disk.
    """
    pictures = (
        name for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")
    )
    return sorted(filter(_numbers, pictures), key=_natural)


class ImageFolderSource(Source):
    """The pictures of one folder, by their paths in order, each shown for 1 / `rate` seconds.

    Raises ValueError, naming the file, for a picture that can't be read or has another size than the first.
    """

    def __init__(self, pictures: Sequence[str], name: str, rate: Fraction, limits: Limits) -> None:
        if not pictures:
            raise ValueError(f"{name} holds no pictures with numbers in their names, such as 0001.png.")
        self.name, self.rate = name, rate
        self.frame_count, self.duration = len(pictures), len(pictures) / rate
        self._pictures, self._limits = pictures, limits
        self.width, self.height = self._open(pictures[0]).size
        _name_gaps(name, [os.path.basename(picture) for picture in pictures])

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame[str]]:
        """Yields the paths; a picture is opened when its pixels are asked for."""
        assert self.rate is not None
        first = min(math.floor(start * self.rate), len(self._pictures) - 1)
        for index in range(first, len(self._pictures)):
            yield TimedFrame(index / self.rate, 1 / self.rate, self._pictures[index])

    def pixels(self, frame: str, width: int, height: int) -> np.ndarray:
        """The picture scaled to width x height, uint8 [height, width, 3], or 4 with premultiplied alpha."""
        picture = self._open(frame)
        if picture.size != (self.width, self.height):
            raise ValueError(
                f"{self._named(frame)} is {picture.width}x{picture.height}, but the first picture is {self.width}x"
                f"{self.height}. Give all of them one size."
            )
        return scaled_picture(picture, width, height)

    def _open(self, path: str) -> Image.Image:
        """The upright picture with 8 bits a channel."""
        try:
            with Image.open(path, formats=sorted(set(EXTENSIONS.values()))) as picture:
                self._limits.check_pixels(self._named(path), *picture.size)
                if picture.mode in ("I", "F") and picture.format != "PNG":
                    raise ValueError(
                        f"{self._named(path)} has 32 bits a channel, which leaves open what is white. Save it with 8 or 16."
                    )
                picture.load()
                with suppress(SyntaxError, TypeError, ValueError, struct.error):  # EXIF data that are damaged
                    ImageOps.exif_transpose(picture, in_place=True)
                return eight_bits(picture)
        except Image.DecompressionBombError as error:
            raise too_large(self._named(path), self._limits) from error
        except (OSError, SyntaxError) as error:
            raise ValueError(
                f"{self._named(path)} can't be read as a picture. Remove it, or save it again."
            ) from error

    def _named(self, path: str) -> str:
        return f"{self.name.rstrip('/')}/{os.path.basename(path)}"


def _name_gaps(folder: str, names: list[str]) -> None:
    """Logs one line where numbers are left out."""
    last = [int(_numbers(name)[-1]) for name in names]
    gaps = [
        pair
        for pair, (one, two) in zip(itertools.pairwise(names), itertools.pairwise(last), strict=True)
        if two - one > 1
    ]
    if gaps and len(gaps) < len(names) - 1:  # else every second one, say, was kept on purpose
        before, after = gaps[0]
        rest = len(gaps) - 1
        more = f", nor in {rest} other place{'s' * (rest > 1)}" if rest else ""
        logging.getLogger(__name__).warning(
            "%s has no pictures between %s and %s%s. The others play one after the other.",
            folder,
            before,
            after,
            more,
        )


def _numbers(name: str) -> list[str]:
    return NUMBER.findall(os.path.splitext(name)[0])


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A sort key in which numbers count as such."""
    parts = re.split(r"(\d+)", os.path.splitext(name)[0])
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]
