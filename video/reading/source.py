"""What every reader of frames offers, whether they come from a video, an animated picture or a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor

from ..timing import TOLERANCE, TimedFrame


class Source(ABC):
    """Frames of one size, in the order of presentation. Use it in a `with` statement.

    `duration` (seconds) and `rate` (frames per second) are what the file claims, None where it claims nothing.
    A rough duration may be far too long, as where sound goes on after the last frame. `frame_count` is exact where
    it is known. `damaged` is set once a part could not be read.
    """

    name: str
    width: int
    height: int
    duration: Fraction | None = None
    duration_is_rough: bool = False
    rate: Fraction | None = None
    frame_count: int | None = None
    damaged: bool = False
    tolerance: Fraction = TOLERANCE

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame[Any]]:
        """Yields frames from at or before `start` (seconds) on; may be called once."""

    @abstractmethod
    def pixels(self, frame: Any, width: int, height: int) -> np.ndarray | Tensor:
        """A frame scaled to width x height: uint8 or a tensor in 0..1, [height, width, 3], or 4 with premultiplied alpha
        where it is not opaque."""

    def audio(self, start: Fraction, seconds: Fraction) -> Mapping[str, Any] | None:
        """The sound of a span as the host's AUDIO value, None where there is none."""
        return None

    def close(self) -> None:  # noqa: B027  # not every source holds something
        """Frees what reading frames took; `audio` goes on working."""
