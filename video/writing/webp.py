"""Animated WebP with the workflow in its EXIF data."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ..frames import Frames, Progress, uint8_frames
from .display_times import display_times, shown
from .metadata import webp_exif

QUALITIES = (60, 75, 88, 96)  # libwebp's own scale up to 100
NO_KEY_FRAMES = {"kmin": 2**31 - 2, "kmax": 2**31 - 1}  # a player begins at the first frame in any case
# libwebp forgets to mark transparency where no frame but a part of one has it.
ANIMATION_FLAG, EXIF_FLAG, ALPHA_FLAG = 0x02, 0x08, 0x10
SHORTEST, LONGEST = 11, 2**24 - 1  # milliseconds; players slow down anything shorter
LARGEST = 16383  # pixels, width and height

Chunk = tuple[bytes, bytes]


def write_webp(
    images: Frames,
    path: Path,
    *,
    order: list[int],
    fps: Fraction,
    quality: int,
    loop_count: int,
    tags: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Encodes images [n, height, width, channels] in 0..1 as a lossy animation. `quality` indexes `QUALITIES`.

    Above 90 frames per second, frames are left out. Raises ValueError for frames larger than a WebP can be.
    """
    height, width, channels = images.shape[1:]
    if max(height, width) > LARGEST:
        raise ValueError(
            f"A webp can be at most {LARGEST:,} pixels wide and high, but the frames are {width}x{height}. "
            "Scale them down or choose webm."
        )
    times = display_times(len(order), fps, 1000, SHORTEST)
    positions = shown(times, "A webp shows at most 90 frames per second")
    order = [order[position] for position in positions]
    transparent = channels == 4
    pictures = uint8_frames(images, order, alpha=transparent, progress=progress)
    clip = _clip(pictures, len(order), (width, height), "RGBA" if transparent else "RGB")
    encoded = io.BytesIO()
    clip.save(
        encoded,
        format="WEBP",
        save_all=True,
        duration=[times[position + 1] - times[position] for position in positions],
        loop=loop_count,
        quality=QUALITIES[quality],
        exif=webp_exif(tags) if tags else b"",
        **NO_KEY_FRAMES,
    )
    chunks = _chunks(encoded.getvalue())
    head = struct.pack("<I", ANIMATION_FLAG | transparent * ALPHA_FLAG | bool(tags) * EXIF_FLAG)
    head += _three_bytes(width - 1) + _three_bytes(height - 1)
    if not any(kind == b"ANMF" for kind, _ in chunks):
        chunks = _animation(chunks, head[4:], min(times[-1], LONGEST), loop_count)
    body = b"WEBP" + _joined([(b"VP8X", head), *(chunk for chunk in chunks if chunk[0] != b"VP8X")])
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def _clip(pictures: Iterator[np.ndarray], count: int, size: tuple[int, int], mode: str) -> Image.Image:
    """An image of `count` frames that are made when the writer asks for them, in order."""
    clip = Image.new(mode, size)

    def show(index: int) -> None:
        picture = next(pictures, None)  # none when the writer goes back to where it began
        if picture is not None:
            clip.frombytes(picture.tobytes())

    clip.n_frames = count  # type: ignore[attr-defined]  # as images of several frames have it
    clip.seek = show  # type: ignore[assignment, method-assign]
    if count == 1:  # which the writer does not look for
        show(0)
    return clip


def _animation(still: list[Chunk], size: bytes, duration: int, loop_count: int) -> list[Chunk]:
    """A still picture, which libwebp makes of one frame or of equal ones, as one frame of `duration` milliseconds."""
    pixels = [chunk for chunk in still if chunk[0] in (b"ALPH", b"VP8 ", b"VP8L")]
    frame = bytes(6) + size + _three_bytes(duration) + bytes(1) + _joined(pixels)
    others = [chunk for chunk in still if chunk not in pixels]
    return [(b"ANIM", struct.pack("<IH", 0, loop_count)), (b"ANMF", frame), *others]


def _chunks(data: bytes) -> list[Chunk]:
    """Kind and data of each chunk of a WebP."""
    found, at = list[Chunk](), len(b"RIFFsizeWEBP")
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def _joined(chunks: list[Chunk]) -> bytes:
    return b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )


def _three_bytes(number: int) -> bytes:
    return number.to_bytes(3, "little")
