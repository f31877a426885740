"""Makes the demo's input clip, a real mp4 or gif of a red circle that moves left in front of a spotted background.

`run_in_pack.py dev_server.clip OUT.mp4`: 4 seconds, 24 frames per second, 64x64. The same seed gives the same frames.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from ..tiny.domain.render import render
from ..tiny.domain.scenes import (
    COLOURS,
    MOTIONS,
    PATTERNS,
    SHAPES,
    SIZES,
    SPEEDS,
    TONES,
    Attributes,
    draw_scenes,
    seeded,
)

SIZE = 64  # pixels to a side, as the tiny family was trained
SECONDS, MP4_FPS, GIF_FPS = 4, 24, 10
SCENE_FPS = 8  # of the frames that a scene's movement is given in
SUFFIXES = (".mp4", ".gif")
SUBJECT = {
    "shape": (SHAPES, "circle"),
    "colour": (COLOURS, "red"),
    "size": (SIZES, "medium"),
    "pattern": (PATTERNS, "spotted"),
    "tone": (TONES, "olive"),
    "motion": (MOTIONS, "left"),
    "speed": (SPEEDS, "normally"),
}


def frames(fps: int, seed: int = 0, size: int = SIZE) -> Iterator[np.ndarray]:
    """The clip's frames, (size, size, 3) bytes."""
    said = {name: torch.tensor([tuple(values).index(word)]) for name, (values, word) in SUBJECT.items()}
    scenes = draw_scenes(seeded("clip", seed), Attributes(**said), SECONDS * SCENE_FPS)
    # Level with the picture's middle, whatever the seed.
    scenes = replace(scenes, y=torch.tensor([0.5]))
    times = torch.arange(SECONDS * fps)[None] * (SCENE_FPS / fps)
    for picture in render(scenes, times, size)[0]:
        yield (picture.movedim(0, -1) * 255).round().byte().numpy()


def write_clip(path: Path, seed: int = 0, size: int = SIZE) -> Path:
    """Writes the clip as mp4 (H.264, yuv420p) or gif, by the extension of the name. Errors: ValueError for other extensions."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path.name}: a clip can be written as {' or '.join(SUFFIXES)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp4":
        write_mp4(path, frames(MP4_FPS, seed, size), size)
    else:
        first, *rest = (Image.fromarray(frame) for frame in frames(GIF_FPS, seed, size))
        first.save(path, save_all=True, append_images=rest, duration=1000 // GIF_FPS, loop=0)
    return path


def write_mp4(path: Path, pictures: Iterator[np.ndarray], size: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=MP4_FPS, options={"crf": "12", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the file to write, .mp4 or .gif")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels to a side; nodes/web/clips has 512")
    options = parser.parse_args(arguments)
    try:
        print(write_clip(options.out, options.seed, options.size))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
