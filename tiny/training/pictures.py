"""Writes grids of pictures, to see what training has learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def save_grid(path: Path, pictures: Tensor, zoom: int = 1) -> None:
    """Pictures (rows, columns, 3, h, w) in 0..1 as one PNG."""
    rows, columns, channels, height, width = pictures.shape
    grid = pictures.detach().float().cpu().clamp(0, 1).permute(0, 3, 1, 4, 2)
    grid = grid.reshape(rows * height, columns * width, channels)
    image = Image.fromarray((grid * 255).round().numpy().astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path)
