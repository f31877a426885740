"""The edges of pictures, as core's Detect Edges (Canny) draws them: what the tiny ControlNet is told."""

from __future__ import annotations

from kornia.filters import canny
from torch import Tensor

# The node's defaults find nothing in pictures as dark as these. It looks at brightness alone: at 0.1 and 0.2 a quarter of the
# subjects' outlines is missing, such as those of purple on gray.
LOW, HIGH = 0.02, 0.04


def edges_of(pictures: Tensor, low: float = LOW) -> Tensor:
    """Pictures (n, 3, h, w) in 0..1 to hints of the same shape: white edges on black. The high threshold is twice `low`."""
    return canny(pictures.float(), low, low * HIGH / LOW)[1].expand_as(pictures)
