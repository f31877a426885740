"""The pictures of a video file: in order, by time, upright, with square pixels and bounded frame sizes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
import numpy as np

from ..colour import ToRgb, has_alpha, is_opaque, premultiplied, warn_about_hdr
from ..timing import TimedFrame, animation_delay, mean_rate
from .audio import SourceAudio, audio_stream
from .container import File, Limits
from .gif import gif_delays
from .interlacing import deinterlaced
from .orientation import Orientation
from .source import Source
from .stream import Frames, PictureStream

SEEK_FROM = Fraction(1)  # seconds: nearer starts are reached faster by decoding
SEEK_LEADS = (Fraction(0), Fraction(10))  # seconds before the start that are tried
GIF_TICK = Fraction(1, 100)
MOST_CONVERTERS = 4  # two for each size of frame; files may change it midway


class VideoSource(Source):
    """The picture stream of a video file; `width` and `height` are those shown on screen."""

    def __init__(self, file: File, name: str, limits: Limits) -> None:
        self.name = name
        self._file, self._limits = file, limits
        self._converters: dict[tuple[object, ...], ToRgb] = {}
        self._stream: PictureStream | None = PictureStream(file, name, limits)
        try:
            self._describe(self._stream)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file and frees the decoder; `audio` goes on working."""
        self._converters.clear()
        if self._stream is not None:
            self.damaged = self._stream.damaged
            self._stream.close()
            self._stream = None

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame[av.VideoFrame]]:
        """Yields frames in order of presentation from at or before `start` (seconds) on; may be called once."""
        if self._stream is None:
            raise ValueError(f"{self.name} has been closed.")
        if self._is_gif:
            yield from _as_browsers_play(self._stream.frames())
            return
        if start > SEEK_FROM:
            self._stream = self._from_key_frame(self._stream, start)
        for timed in deinterlaced(self._stream.frames()):
            yield TimedFrame(timed.pts_seconds - self._origin, timed.duration_seconds, timed.frame)

    def pixels(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        """The upright picture scaled to width x height, uint8 [height, width, 3], or 4 with premultiplied alpha."""
        if self._orientation.sideways:
            width, height = height, width
        try:
            picture = self._scaled(frame, width, height)
        except (av.error.FFmpegError, ValueError) as error:
            raise ValueError(
                f"{self.name} has pictures that can't be turned into RGB ({frame.format.name}, {frame.width}x"
                f"{frame.height}). Convert it to H.264 mp4."
            ) from error
        return self._orientation.upright(picture.to_ndarray())

    def audio(self, start: Fraction, seconds: Fraction) -> SourceAudio | None:
        """The sound of a span of the video, still to be decoded, or None when the file has no sound track."""
        if not self._has_sound:
            return None
        return SourceAudio(self._file, self.name, self._origin, start, seconds, self._limits)

    def _describe(self, stream: PictureStream) -> None:
        frame = stream.first().frame
        warn_about_hdr(stream.decoder, self.name)
        self._origin = stream.origin
        self._codec = stream.decoder.codec.canonical_name
        self._is_gif = self._codec == "gif"
        # Whose fourth byte is unused in most files, and 0.
        self._is_bitmap = self._codec == "rawvideo" and stream.container.format.name == "avi"
        self._has_sound = audio_stream(stream.container) is not None
        aspect = stream.stream.sample_aspect_ratio or Fraction(1)
        self.width, self.height = max(1, round(frame.width * aspect)), frame.height
        self._orientation = Orientation.of(frame)
        if self._orientation.sideways:
            self.width, self.height = self.height, self.width
        self.rate = stream.stream.average_rate or None
        self.frame_count = stream.stream.frames or None
        self.duration = stream.duration()
        self.duration_is_rough = stream.duration_is_rough()
        if self._is_gif:
            delays = gif_delays(self._file, self.name)
            self.tolerance = GIF_TICK / 2
            self.frame_count, self.duration = len(delays), sum(delays, Fraction(0))
            self.rate = mean_rate(delays)

    def _scaled(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        if not has_alpha(frame) or is_opaque(frame):
            return self._rgb(frame, width, height, "rgb24")
        rgba = self._rgb(frame, frame.width, frame.height, "rgba").to_ndarray()
        alpha = rgba[..., 3]
        unused = self._is_bitmap and not alpha.any()
        if unused or alpha.min() == 255:
            return self._rgb(frame, width, height, "rgb24")
        return self._rgb(premultiplied(rgba), width, height, "rgba")

    def _rgb(self, frame: av.VideoFrame, width: int, height: int, pixel_format: str) -> av.VideoFrame:
        stored = frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range
        kind = (*stored, width, height, pixel_format)
        if kind not in self._converters:
            if len(self._converters) == MOST_CONVERTERS:
                self._converters.clear()
            self._converters[kind] = ToRgb(frame, width, height, pixel_format, self._codec)
        return self._converters[kind](frame)

    def _from_key_frame(self, stream: PictureStream, start: Fraction) -> PictureStream:
        """The stream where decoding has to begin for `start`: at a key frame, else at the beginning."""
        for lead in SEEK_LEADS:
            earlier = max(start - lead, Fraction(0))
            if stream.seek(self._origin + earlier, self._origin + start):
                return stream
        logging.info("%s cannot be searched by time; reading it from the beginning.", self.name)
        stream.close()
        return PictureStream(self._file, self.name, self._limits)


def _as_browsers_play(frames: Frames) -> Frames:
    """A GIF with its shortest delays made longer, and every later frame moved with them."""
    time = Fraction(0)
    for timed in frames:
        duration = animation_delay(timed.duration_seconds)
        yield TimedFrame(time, duration, timed.frame)
        time += duration
