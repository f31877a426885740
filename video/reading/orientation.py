"""Which way up a frame is shown: turned by quarters, mirrored, or both, as its display matrix says."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np

SMALL = 16  # pixels


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
    """Nine whole numbers. They are read from a small copy, for a frame whose side data were read stays in memory."""
    copy = frame.reformat(width=SMALL, height=SMALL, format="gray")
    stored = (copy if copy.rotation == frame.rotation else frame).side_data.get("DISPLAYMATRIX")
    return None if stored is None else np.frombuffer(stored, np.int32)
