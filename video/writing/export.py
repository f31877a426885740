"""One call from frames to a finished file: format, quality, name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ..frames import Frames, Progress, check_images, play_order, to_uint8
from .encode import H264, webm_codec, write_video
from .gif import write_gif
from .metadata import png_text
from .new_files import NewFiles, new_files, write_errors
from .webp import write_webp

log = logging.getLogger(__name__)

FORMATS = ("mp4", "webm", "gif", "webp")
WITH_SOUND = ("mp4", "webm")
QUALITIES = ("low", "medium", "high", "maximum")
DEFAULT_QUALITY = "high"
MAX_FPS = 1000
MOST_LOOPS = 65535  # as a GIF and a WebP can say


@dataclass(frozen=True)
class Export:
    """How frames are written. `crf` of -1 takes the value that belongs to `quality`; only mp4 and webm have one.

    `loop_count` is how often a GIF or WebP plays; 0 means for ever.
    """

    fps: Fraction
    format: str = "mp4"
    quality: str = DEFAULT_QUALITY
    crf: int = -1
    ping_pong: bool = False
    loop_count: int = 0

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"'{self.format}' is not a format. Choose one of: {', '.join(FORMATS)}.")
        if self.quality not in QUALITIES:
            raise ValueError(f"'{self.quality}' is not a quality. Choose one of: {', '.join(QUALITIES)}.")
        if not 0 < self.fps <= MAX_FPS:
            raise ValueError(f"fps must be above 0 and at most {MAX_FPS}, not {float(self.fps):g}.")
        highest = 51 if self.format == "mp4" else 63
        if not -1 <= self.crf <= highest:
            raise ValueError(
                f"crf must be -1 (from quality) or 0 to {highest} for {self.format}, not {self.crf}."
            )
        if not 0 <= self.loop_count <= MOST_LOOPS:
            raise ValueError(f"loop_count must be 0 (for ever) to {MOST_LOOPS:,}, not {self.loop_count}.")

    @property
    def reads_once(self) -> bool:
        """Whether every frame is written as it comes; else frames are needed again, in reverse or for a palette."""
        return self.format in WITH_SOUND and not self.ping_pong


def export_video(
    images: Frames,
    folder: Path,
    name: str,
    counter: int,
    settings: Export,
    *,
    audio: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes images [n, height, width, channels] in 0..1 as `<name>_<counter>_.<format>` and returns the path.

    The file appears only when it is complete; an existing file is never replaced, the next number is taken.
    A GIF gets a PNG of its first frame beside it that carries the workflow.
    Raises ValueError for frames that can't be written and OSError when the folder or disk refuses.
    """

    def stem(number: int) -> str:
        return f"{name}_{number:05}_"

    check_images(images)
    suffixes = (".gif", ".png") if settings.format == "gif" else (f".{settings.format}",)
    with write_errors(f"{stem(counter)}{suffixes[0]}"), new_files(folder, *suffixes) as files:
        _write(images, files, settings, audio, tags or {}, progress)
        if progress:
            progress(1, 1)  # the encoder takes time to finish: a last chance to cancel
        path = files.keep(stem, counter)
    frames = len(play_order(len(images), settings.ping_pong))
    log.info("%s: %d frames, %.4g s", path.name, frames, frames / settings.fps)
    return path


def _write(
    images: Frames,
    files: NewFiles,
    settings: Export,
    audio: Mapping[str, Any] | None,
    tags: Mapping[str, str],
    progress: Progress | None,
) -> None:
    order = play_order(len(images), settings.ping_pong)
    quality = QUALITIES.index(settings.quality)
    path = files[f".{settings.format}"]
    if audio and settings.format not in WITH_SOUND:
        log.warning("%s has no sound: the audio is left out. Use mp4 or webm to keep it.", settings.format)
    if settings.format in WITH_SOUND:
        codec = H264 if settings.format == "mp4" else webm_codec(images, settings.fps, settings.crf)
        crf = codec.crf[quality] if settings.crf < 0 else settings.crf
        write_video(
            images,
            path,
            codec,
            order=order,
            fps=settings.fps,
            crf=crf,
            audio=audio,
            tags=tags,
            progress=progress,
        )
        return
    loops = settings.loop_count
    if settings.format == "webp":
        write_webp(
            images,
            path,
            order=order,
            fps=settings.fps,
            quality=quality,
            loop_count=loops,
            tags=tags,
            progress=progress,
        )
    else:
        write_gif(
            images, path, order=order, fps=settings.fps, quality=quality, loop_count=loops, progress=progress
        )
        Image.fromarray(to_uint8(images[order[0]])).save(files[".png"], pnginfo=png_text(tags))
