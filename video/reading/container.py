"""Opening media safely: only known containers, only local files, no lists of other files."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error

from .recordings import Recordings

# FFmpeg's demuxers and the extensions of their files.
CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": (".mp4", ".mov", ".m4v", ".3gp"),
    "matroska,webm": (".mkv", ".webm"),
    "avi": (".avi",),
    "mpegts": (".ts", ".mts", ".m2ts"),
    "flv": (".flv",),
    "gif": (".gif",),
}
EXTENSIONS = tuple(extension for extensions in CONTAINERS.values() for extension in extensions)
HEAD = 21  # bytes, up to the flags of a WebP

File = str | io.BytesIO


@dataclass(frozen=True)
class Limits:
    """Bounds on what is decoded. `max_bytes` is the memory that frames or sound may take, None for no bound."""

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

    def check_frames(self, name: str, frames: int, size: tuple[int, int], frame_bytes: int) -> None:
        """Raises ValueError when so many frames of a size (width, height), each of so many bytes, pass a limit."""
        remedy = "Lower first_n_seconds, fps or size, or set max_frames."
        if frames > self.max_frames:
            raise ValueError(
                f"{name} would give {frames:,} frames, more than the limit of {self.max_frames:,}. {remedy}"
            )
        fit = f"There is room for {(self.max_bytes or 0) // frame_bytes:,}. {remedy}"
        self.check_bytes(f"{frames:,} frames of {size[0]}x{size[1]}", frames * frame_bytes, fit)

    def check_bytes(self, what: str, needed: int, remedy: str) -> None:
        """Raises ValueError when `what` would take more memory than allowed."""
        if self.max_bytes is not None and needed > self.max_bytes:
            raise ValueError(
                f"{what} need {needed / 2**30:.1f} GB, but only {self.max_bytes / 2**30:.1f} GB of memory is free. "
                + remedy
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


def file_head(file: File) -> bytes:
    """The first bytes of a file or buffer."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:HEAD]
    with open(file, "rb") as opened:
        return opened.read(HEAD)


def open_container(file: File, name: str) -> av.container.InputContainer:
    """Opens a local media file or buffer; playlists, lists of other files and network addresses are refused.

    Raises ValueError when the file is none of the known kinds or is damaged beyond use.
    """
    if isinstance(file, str):
        check_file(file, name)
        file = os.path.abspath(file)
    recordings = Recordings(file)
    if recordings.are_several():
        opened: str | io.BytesIO | Recordings = recordings
    else:
        opened = file if isinstance(file, str) else io.BytesIO(file.getvalue())
    allowed = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    try:
        return av.open(opened, mode="r", container_options=allowed, metadata_errors="replace")
    except av.error.FFmpegError as error:
        kinds = ", ".join(extension[1:] for extension in EXTENSIONS)
        raise ValueError(
            f"{name} could not be opened as a video ({error.strerror}). It may be empty, cut off or not a video. "
            f"Use one of these: {kinds}, animated webp or png."
        ) from error


def moving_pictures(container: av.container.InputContainer) -> av.VideoStream | None:
    """The default picture stream that is no cover image, else the first one, else None.

    The still of an animated AVIF, a stream of one frame without a length, comes after those that move.
    """
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    streams = [stream for stream in streams if stream.frames != 1 or stream.duration] or streams
    default = (s for s in streams if s.disposition & av.stream.Disposition.default)
    return next(default, streams[0] if streams else None)


def pts_seconds(
    pts: int | None, clock: av.stream.Stream | av.packet.Packet | av.frame.Frame
) -> Fraction | None:
    """A time stamp in seconds by the clock of its stream, packet or frame, None where either is missing."""
    return None if pts is None or clock.time_base is None else pts * clock.time_base


def seek(container: av.container.InputContainer, stream: av.stream.Stream, seconds: Fraction) -> bool:
    """Goes to a key frame before a moment; False where the file can't be searched. Its position is then unknown.

    The times of an MPEG-TS may begin anew midway, so that one time names several places.
    """
    if stream.time_base is None or container.format.name == "mpegts":
        return False
    try:
        container.seek(int(seconds / stream.time_base), stream=stream, backward=True)
    except (av.error.FFmpegError, OverflowError):
        return False
    return True
