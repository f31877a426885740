"""Opening media safely: only known containers, only local files, no lists of other files."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import av
import av.error

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,avi,mpegts,flv"
KINDS = "mp4, mov, mkv, webm, avi, ts, gif, animated webp or png"

File = str | io.BytesIO


@dataclass(frozen=True)
class Limits:
    """Bounds on what is decoded. `max_bytes` is the memory that the frames may take, None for no bound."""

    max_pixels: int = 8192 * 8192
    max_frames: int = 10_000
    max_bytes: int | None = None

    def check_pixels(self, name: str, width: int, height: int) -> None:
        """Raises ValueError when a frame is larger than allowed."""
        if width * height > self.max_pixels:
            raise ValueError(
                f"{name} is {width}x{height}, more than the limit of {self.max_pixels:,} pixels in a frame. "
                "Scale it down first."
            )


def check_file(file: File, name: str) -> None:
    """Raises FileNotFoundError for a path that is no regular file, PermissionError for one that can't be read."""
    if not isinstance(file, str):
        return
    if not os.path.isfile(file):
        raise FileNotFoundError(f"{name} was not found. Choose or upload the video again.")
    try:
        open(file, "rb").close()
    except PermissionError as error:
        raise PermissionError(
            f"{name} can't be read. Change its permissions or upload the video again."
        ) from error


def open_container(file: File, name: str) -> av.container.InputContainer:
    """Opens a local media file or buffer; playlists, lists of other files and network addresses are refused.

    Raises ValueError when the file is none of the known kinds or is damaged beyond use.
    """
    if isinstance(file, str):
        check_file(file, name)
        file = os.path.abspath(file)
    else:
        file = io.BytesIO(file.getvalue())
    allowed = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        return av.open(file, mode="r", container_options=allowed, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{name} could not be opened as a video ({error.strerror}). It may be empty, cut off or of another kind. "
            f"Use a {KINDS}."
        ) from error


def packets(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    """The packets of a stream, then an empty one, which drains its decoder. Where a file can't be read on, it ends.

    PyAV loses count at the end of a file when streams have turned up midway, as they may in MPEG-TS.
    """
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)
    except (av.error.FFmpegError, IndexError) as error:
        logging.debug("Reading stopped: %s", error)
    last = av.Packet()
    last.stream, last.time_base = stream, stream.time_base
    yield last
