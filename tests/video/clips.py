"""Clips whose frames carry their own number as a bar code, so that a test can see which ones were taken."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

BITS = 10
BAR = 8  # pixels
WIDTH, HEIGHT = BITS * BAR, 16

ENCODERS = {".webm": "libvpx-vp9", ".gif": "gif"}
OPTIONS = {"libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"}, "libx264": {"preset": "ultrafast"}}


def barcode(number: int) -> np.ndarray:
    """A uint8 picture [HEIGHT, WIDTH, 3] of the binary digits of the number."""
    digits = [255 * (number >> bit & 1) for bit in range(BITS)]
    row = np.repeat(np.array(digits, np.uint8), BAR)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).copy()


def number(picture: np.ndarray) -> int:
    """The number read back from a uint8 picture [HEIGHT, WIDTH, 3]."""
    return sum(int(picture[HEIGHT // 2, bit * BAR + BAR // 2, 0] > 127) << bit for bit in range(BITS))


def numbers(images: Tensor) -> list[int]:
    """The numbers read back from images [n, HEIGHT, WIDTH, 3]."""
    bars = images.float().mean(dim=(1, 3)).reshape(len(images), BITS, BAR)[..., 2:-2].mean(-1)
    return [sum(int(bar > 0.5) << bit for bit, bar in enumerate(row)) for row in bars.tolist()]


def write_video(
    path: Path, times: Sequence[Fraction], *, origin: Fraction = Fraction(0), **stream: object
) -> Path:
    """Writes bar-coded frames 0, 1, ... shown at the given times (seconds), the first one at `origin`."""
    codec = ENCODERS.get(path.suffix, "libx264")
    tick = Fraction(1, 100) if codec == "gif" else Fraction(1, 90000)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=1 / (times[1] - times[0]) if len(times) > 1 else 25)
        video.width, video.height = WIDTH, HEIGHT
        video.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        video.options = OPTIONS.get(codec, {})
        video.codec_context.time_base = tick
        for name, value in stream.items():
            setattr(video, name, value)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="rgb24").reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = round((origin + time) / tick), tick
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def write_webp(path: Path, durations: Sequence[int]) -> Path:
    """Writes bar-coded frames as an animated WebP; durations in milliseconds."""
    first, *rest = (Image.fromarray(barcode(number)) for number in range(len(durations)))
    first.save(path, save_all=True, append_images=rest, duration=list(durations), lossless=True, method=0)
    return path


def constant(rate: Fraction, seconds: Fraction) -> list[Fraction]:
    """The times of frames at a constant rate."""
    return [k / rate for k in range(int(seconds * rate))]


@contextmanager
def without_rights() -> Iterator[None]:
    """Runs as a user that may write nowhere in particular; only the superuser needs to change for that."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def bars(frames: int) -> torch.Tensor:
    """Images whose numbers can be read back."""
    return torch.from_numpy(np.stack([barcode(number) for number in range(frames)])).float() / 255
