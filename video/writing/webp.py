"""Animated WebP with the workflow in its EXIF data."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av

from ..frames import Frames, Progress, uint8_frames
from .metadata import webp_exif

MILLISECOND = Fraction(1, 1000)
EXIF_FLAG, ALPHA_FLAG = 0x08, 0x10
QUALITIES = (60, 75, 88, 96)  # libwebp's own scale up to 100


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
    """Encodes images [n, height, width, channels] in 0..1 as a lossy animation. `quality` indexes `QUALITIES`."""
    options = {"loop": str(loop_count)}
    with av.open(str(path), "w", format="webp", options=options) as container:
        stream = container.add_stream("libwebp_anim", rate=1000)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "bgra"
        stream.codec_context.time_base = MILLISECOND
        stream.options = {"quality": str(QUALITIES[quality]), "lossless": "0", "compression_level": "4"}
        for k, picture in enumerate(uint8_frames(images, order, alpha=True, progress=progress)):
            frame = av.VideoFrame.from_ndarray(picture[..., [2, 1, 0, 3]], format="bgra")
            frame.pts, frame.time_base = math.floor(k * 1000 / fps), MILLISECOND
            frame.duration = math.floor((k + 1) * 1000 / fps) - frame.pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    height, width, channels = images.shape[1:]
    _extend(path, webp_exif(tags) if tags else b"", width, height, channels == 4)


def _extend(path: Path, exif: bytes, width: int, height: int, alpha: bool) -> None:
    """Marks transparency in the header, which the encoder forgets when it cuts frames, and appends the EXIF data.

    A still picture, which one frame becomes, may have no such header yet.
    """
    with open(path, "r+b") as file:
        file.seek(12)
        if file.read(4) != b"VP8X":
            file.seek(12)
            chunks = file.read()
            file.seek(12)
            file.write(
                b"VP8X"
                + struct.pack("<II", 10, 0)
                + _three_bytes(width - 1)
                + _three_bytes(height - 1)
                + chunks
            )
        file.seek(20)
        flags = file.read(1)[0] | (EXIF_FLAG if exif else 0) | (ALPHA_FLAG if alpha else 0)
        file.seek(20)
        file.write(bytes([flags]))
        end = file.seek(0, os.SEEK_END)
        if exif:
            end += file.write(b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2))
        file.seek(4)
        file.write(struct.pack("<I", end - 8))


def _three_bytes(number: int) -> bytes:
    return number.to_bytes(3, "little")
