"""Which size the frames get: an area that keeps the aspect, a preset, a custom size or the source's own."""

from __future__ import annotations

import math

MULTIPLE = 8  # one latent pixel
SMALLEST = 64
AREA = 512 * 512

PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}

FIT = "fit 512x512 area"
SOURCE = "source"
SIZES: dict[str, tuple[int, int] | None] = {
    FIT: None,
    **{f"{name} {width}x{height}": (width, height) for name, (width, height) in PRESETS.items()},
    SOURCE: None,
}

Size = str | tuple[int, int]


def fit_area(width: int, height: int, area: int = AREA) -> tuple[int, int]:
    """Multiples of 8 that cover about `area` pixels and come closest to the aspect of width x height."""
    scale = math.sqrt(area / (width * height))
    return _multiple(width * scale), _multiple(height * scale)


def target_size(size: Size, width: int, height: int) -> tuple[int, int]:
    """The width and height of the frames that a source of width x height is turned into.

    Raises ValueError for a name that is not in `SIZES`.
    """
    if isinstance(size, tuple):
        return size
    if size == FIT:
        return fit_area(width, height)
    if size == SOURCE:
        return width, height
    preset = SIZES.get(size)
    if preset is None:
        raise ValueError(f"'{size}' is not a size. Choose one of: {', '.join(SIZES)}.")
    return preset


def cover(width: int, height: int, target: tuple[int, int]) -> tuple[int, int]:
    """The smallest size with the aspect of width x height that covers the target; the rest is cropped."""
    scale = max(target[0] / width, target[1] / height)
    return max(target[0], round(width * scale)), max(target[1], round(height * scale))


def _multiple(length: float) -> int:
    return max(SMALLEST, round(length / MULTIPLE) * MULTIPLE)
