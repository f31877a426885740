"""Which reader a file needs, decided by its first bytes and never by its name."""

from __future__ import annotations

from .animated_image import AnimatedImageSource, file_head, is_image
from .container import File, Limits, check_file
from .video_source import VideoSource


def open_source(file: File, name: str, limits: Limits | None = None) -> VideoSource | AnimatedImageSource:
    """Opens a video or animated picture, a path or a buffer. `name` is what errors call it.

    Raises ValueError when it is none, FileNotFoundError when it is not there and PermissionError when it can't be read.
    """
    check_file(file, name)
    return (AnimatedImageSource if is_image(file_head(file)) else VideoSource)(file, name, limits)
