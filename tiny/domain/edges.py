"""The edges of pictures, as core's Detect Edges (Canny) draws them: what the tiny ControlNet is told."""

from __future__ import annotations

from kornia.filters import canny
from torch import Tensor

LOW, HIGH = 0.1, 0.2  # the node's defaults find nothing in pictures as dark as these


def edges_of(pictures: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) in 0..1 to hints of the same shape: white edges on black."""
    return canny(pictures.float(), LOW, HIGH)[1].expand_as(pictures)
