"""Which way up a frame is shown: turned by quarters, mirrored, or both, as its display matrix says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.buffer import Buffer
from av.sidedata.sidedata import Type

from ..colour import filter_graph, untagging

SMALL = 16  # pixels
# PyAV raises on a frame with side data newer than its table. The numbers of FFmpeg end before 64.
NAMED_ONLY = [("sidedata", f"mode=delete:type={number}") for number in range(len(Type), 64)]


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is brought upright: rows and columns swapped, then mirrored, then put upside down."""

    sideways: bool = False
    mirrored: bool = False
    upside_down: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """The orientation that the frame's display matrix asks for."""
        matrix = _display_matrix(frame)
        if matrix is None:
            return cls()
        # The stored point (x, y) is shown at (a x + c y, b x + d y).
        a, b, c, d = (int(matrix[index]) for index in (0, 1, 3, 4))
        return cls(True, c < 0, b < 0) if abs(b) > abs(a) else cls(False, a < 0, d < 0)

    def upright(self, picture: np.ndarray) -> np.ndarray:
        """The stored picture [height, width, channels] as it is shown."""
        if self.sideways:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """Nine whole numbers, read from a small copy: a frame whose side data were read stays in memory."""
    graph = filter_graph(
        frame, *NAMED_ONLY, untagging(frame), ("scale", f"{SMALL}:{SMALL}"), ("format", "gray")
    )
    graph.vpush(frame)
    stored = cast(Mapping[str, Buffer], graph.vpull().side_data).get("DISPLAYMATRIX")
    return None if stored is None else np.frombuffer(bytes(stored), np.int32)
