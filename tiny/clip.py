"""Makes the demo's input clip, a real mp4 or gif of shapes moving over a textured background.

`python tiny/clip.py OUT.mp4`: 4 seconds, 24 frames per second, 192x128. The same seed gives the same frames.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

SIZE = (192, 128)  # width, height; small, so that a processor re-animates it in seconds
SECONDS, MP4_FPS, GIF_FPS = 4, 24, 10
SUFFIXES = (".mp4", ".gif")

Field = np.ndarray  # (height, width)
Shape = Callable[[Field, Field], Field]  # distances from the centre in radii -> True inside


def circle(x: Field, y: Field) -> Field:
    return x**2 + y**2 < 1


def square(x: Field, y: Field) -> Field:
    return np.maximum(abs(x), abs(y)) < 0.9


def triangle(x: Field, y: Field) -> Field:
    return (y < 0.8) & (y > 2 * abs(x) - 1)


def background(rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) in 0..1: smooth noise of three grain sizes between two muted colours."""
    width, height = SIZE
    texture = np.zeros((height, width))
    for grain, weight in ((64, 0.5), (16, 0.3), (4, 0.2)):
        coarse = rng.random((height // grain + 2, width // grain + 2)).astype(np.float32)
        texture += weight * np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC))
    dark, light = np.array([0.16, 0.24, 0.22]), np.array([0.62, 0.66, 0.56])
    return dark + (light - dark) * texture.clip(0, 1)[..., None]


def frames(fps: int, seed: int = 0) -> Iterator[np.ndarray]:
    """The clip's frames, (height, width, 3) bytes: a circle crosses, a square bounces, a triangle circles."""
    scene = background(np.random.default_rng(seed))
    width, height = SIZE
    y, x = np.mgrid[:height, :width].astype(np.float64)
    for number in range(SECONDS * fps):
        t = number / (SECONDS * fps)  # 0..1
        picture = scene.copy()
        turn = 2 * np.pi * t
        draw: list[tuple[Shape, float, float, tuple[float, float, float]]] = [
            (square, 0.25, 0.75 - 0.5 * abs(np.sin(2 * turn)), (0.20, 0.36, 0.88)),
            (triangle, 0.72 + 0.13 * np.cos(turn), 0.5 + 0.2 * np.sin(turn), (0.94, 0.76, 0.16)),
            (circle, 0.95 - 0.9 * t, 0.4, (0.86, 0.16, 0.14)),
        ]
        for shape, centre_x, centre_y, colour in draw:
            radius = 0.15 * height
            inside = shape((x - centre_x * width) / radius, (y - centre_y * height) / radius)
            picture[inside] = colour
        yield (picture * 255).round().astype(np.uint8)


def write_clip(path: Path, seed: int = 0) -> Path:
    """Writes the clip as mp4 (H.264, yuv420p) or gif, as the name's ending says. Errors: ValueError for others."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path.name}: a clip can be written as {' or '.join(SUFFIXES)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp4":
        write_mp4(path, frames(MP4_FPS, seed))
    else:
        first, *rest = (Image.fromarray(frame) for frame in frames(GIF_FPS, seed))
        first.save(path, save_all=True, append_images=rest, duration=1000 // GIF_FPS, loop=0)
    return path


def write_mp4(path: Path, pictures: Iterator[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=MP4_FPS, options={"crf": "16", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the file to write, .mp4 or .gif")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        print(write_clip(options.out, options.seed))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
