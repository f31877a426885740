"""Video files, animated pictures and tensors as frames chosen by time, with their sound."""

from __future__ import annotations

from .animated_image import AnimatedImageSource, is_image
from .container import File, Limits, check_file, file_head
from .source import Source
from .video_source import VideoSource


def open_source(file: File, name: str, limits: Limits | None = None) -> Source:
    """Opens a video or animated picture, a path or a buffer, by its content. `name` is what errors call it.

    Raises ValueError when it is neither, FileNotFoundError when it does not exist and PermissionError when it can't
    be read.
    """
    check_file(file, name)
    reader = AnimatedImageSource if is_image(file_head(file)) else VideoSource
    return reader(file, name, limits or Limits())
