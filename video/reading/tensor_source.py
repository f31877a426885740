"""Frames that are in memory already, behind the same selection and scaling as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..frames import check_images, on_black
from ..timing import TimedFrame
from .audio import trimmed_audio
from .source import Source


class TensorSource(Source):
    """A batch of images [n, height, width, channels] in 0..1 that plays at `rate` frames per second."""

    def __init__(
        self, images: Tensor, rate: Fraction, audio: Mapping[str, Any] | None = None, name: str = "The video"
    ) -> None:
        check_images(images)
        if rate <= 0:
            raise ValueError(f"{name} has {float(rate):g} frames per second. Make it with an fps above 0.")
        self.name, self.rate = name, rate
        self.height, self.width = images.shape[1:3]
        self.frame_count = len(images)
        self.duration = len(images) / rate
        self._images, self._audio, self._step = images, audio, 1 / rate

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame[Tensor]]:
        """Yields the images with their times, in seconds."""
        for index, image in enumerate(self._images):
            yield TimedFrame(index * self._step, self._step, image)

    def pixels(self, frame: Tensor, width: int, height: int) -> Tensor:
        """The image scaled to width x height in 0..1, [height, width, 3], or 4 with premultiplied alpha."""
        image = frame
        if frame.shape[-1] == 4:
            image = torch.cat((on_black(frame), frame[..., 3:].clamp(0, 1)), dim=-1)
        if image.shape[:2] == (height, width):
            return image
        scaled = torch.nn.functional.interpolate(
            image.float().movedim(-1, 0)[None], (height, width), mode="bicubic", antialias=True
        )
        return scaled[0].movedim(0, -1).clamp(0, 1)

    def audio(self, start: Fraction, seconds: Fraction) -> dict[str, Any] | None:
        """The sound of a span of the video, or None."""
        return None if self._audio is None else trimmed_audio(self._audio, start, seconds)
