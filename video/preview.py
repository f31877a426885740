"""A small muted mp4 of the beginning of a clip, for pages whose browser can't play the clip itself."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from .frames import Progress
from .reading.decode import load_clip
from .reading.source import Source
from .size import fit_area
from .timing import Selection
from .writing.encode import H264, write_video
from .writing.new_files import new_files, write_errors

AREA = 320 * 320
FPS = Fraction(12)
SECONDS = Fraction(10)
CRF = 28


def write_preview(source: Source, path: Path, progress: Progress | None = None) -> None:
    """Writes the first seconds of an open source, which it closes, to an mp4; an older file of that name is replaced.

    The file appears when it is complete. Raises ValueError where the source can't be read and OSError where the
    folder or disk refuses.
    """
    size = fit_area(source.width, source.height, AREA)
    clip = load_clip(source, Selection(FPS, SECONDS), size, progress=progress)
    with write_errors(path.name), new_files(path.parent, ".mp4") as files:
        order = list(range(len(clip.images)))
        write_video(clip.images, files[".mp4"], H264, order=order, fps=clip.fps, crf=CRF)
        os.replace(files[".mp4"], path)
