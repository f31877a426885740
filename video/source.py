"""The pictures of a video file: in order, by time, upright, with square pixels and bounded frame sizes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType

import av
import av.error
import numpy as np

from .audio import SourceAudio, audio_stream
from .colour import ToRgb, has_alpha, premultiplied, warn_about_hdr
from .container import File, Limits, open_container
from .select import TOLERANCE, Timed, animation_delay

SEEK_FROM = Fraction(1)  # seconds: nearer starts are reached faster by decoding
SEEK_LEADS = (Fraction(0), Fraction(10))  # seconds before the start that are tried
DEFAULT_RATE = Fraction(25)
MILLISECOND = Fraction(1, 1000)  # the tick of Matroska and WebM
GIF_TICK = Fraction(1, 100)
ROUNDING = Fraction(6, 10000)  # seconds: half a tick, and a little for rates that are rounded too


class VideoSource:
    """The picture stream of a video file, upright and with square pixels. Use it in a `with` statement.

    `width` and `height` are those shown on screen; `duration` (seconds) is None when the file does not say.
    """

    def __init__(self, file: File, name: str, limits: Limits | None = None) -> None:
        self.name, self._file = name, file
        self.damaged = False
        self._limits = limits or Limits()
        self._container = open_container(file, name)
        try:
            self._stream = self._picture_stream()
            self._decoder = self._open_decoder()
            self._decoded = self._decode()
            first = next(self._decoded, None)
            if first is None:
                raise ValueError(
                    f"{name} has no frame that can be decoded. Save or download the video again."
                )
            self._first = first
            self._describe(first.frame)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[Timed[av.VideoFrame]]:
        """Yields frames in order of presentation from at or before `start` (seconds) on; may be called once."""
        if self._decoder.name == "gif":
            yield from _as_browsers_play(self._from_beginning())
            return
        for timed in self._from_seek(start) if start > SEEK_FROM else self._from_beginning():
            yield Timed(timed.time - self._first.time, timed.duration, timed.frame)

    def pixels(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        """The upright picture scaled to width x height, uint8 [height, width, 3], or 4 with premultiplied alpha."""
        turns = round(frame.rotation / 90) % 4
        if turns % 2:
            width, height = height, width
        if has_alpha(frame):
            frame = premultiplied(self._rgb(frame, frame.width, frame.height, "rgba"))
            picture = self._rgb(frame, width, height, "rgba")
        else:
            picture = self._rgb(frame, width, height, "rgb24")
        return np.rot90(picture.to_ndarray(), turns)

    def _rgb(self, frame: av.VideoFrame, width: int, height: int, pixel_format: str) -> av.VideoFrame:
        kind = (frame.width, frame.height, frame.format.name, width, height)
        if kind not in self._converters:
            codec = self._stream.codec_context.codec.canonical_name
            self._converters[kind] = ToRgb(frame, width, height, pixel_format, codec)
        return self._converters[kind](frame)

    def audio(self, start: Fraction, seconds: Fraction) -> SourceAudio | None:
        """The sound of a span of the video, still to be decoded, or None when the file has no sound track."""
        if audio_stream(self._container) is None:
            return None
        return SourceAudio(self._file, self.name, self._first.time, start, seconds)

    def _picture_stream(self) -> av.VideoStream:
        streams = [
            s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
        ]
        if not streams:
            raise ValueError(
                f"{self.name} has no moving pictures, only sound or a cover image. Choose a video."
            )
        stream = next((s for s in streams if s.disposition & av.stream.Disposition.default), streams[0])
        if stream.codec_context is None:
            raise ValueError(
                f"{self.name} is packed with a codec that is not supported. Convert it to H.264 mp4."
            )
        return stream

    def _open_decoder(self) -> av.VideoCodecContext:
        """The stream's decoder with a bound on frame sizes; the transparency of VP9 needs libvpx's own."""
        decoder = self._stream.codec_context
        self._limits.check_pixels(self.name, decoder.width, decoder.height)
        if self._stream.metadata.get("alpha_mode") == "1" and "libvpx-vp9" in av.codecs_available:
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        decoder.options = {"max_pixels": str(self._limits.max_pixels)}
        decoder.thread_type = "AUTO"
        return decoder

    def _describe(self, frame: av.VideoFrame) -> None:
        stream = self._stream
        warn_about_hdr(self._decoder, self.name)
        self._converters: dict[tuple[object, ...], ToRgb] = {}
        self.has_alpha = has_alpha(frame)
        self.tolerance = GIF_TICK / 2 if self._decoder.name == "gif" else TOLERANCE
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self.width, self.height = max(1, round(frame.width * aspect)), frame.height
        if round(frame.rotation / 90) % 2:
            self.width, self.height = self.height, self.width
        self.rate = stream.average_rate or None
        self.duration = self._duration()

    def _duration(self) -> Fraction | None:
        if self._stream.duration:
            return self._stream.duration * self._stream.time_base
        if self._container.duration:
            return Fraction(self._container.duration, av.time_base)
        return None

    def _decode(self) -> Iterator[Timed[av.VideoFrame]]:
        """Decodes on from where the container stands, with the file's own times; broken packets are passed over."""
        step = 1 / Fraction(self._stream.average_rate or DEFAULT_RATE)
        last: Fraction | None = None
        for packet in self._container.demux(self._stream):
            for frame in self._decode_packet(packet):
                time = self._time(frame, step)
                if last is not None and (time is None or time <= last):
                    time = last + step
                elif last is not None and not self._stream.average_rate:
                    step = time - last
                last = time or Fraction(0)
                duration = frame.duration * frame.time_base
                # Matroska cuts durations to whole milliseconds.
                whole = frame.time_base == MILLISECOND and abs(duration - step) < MILLISECOND
                yield Timed(last, step if whole else duration or step, frame)

    def _time(self, frame: av.VideoFrame, step: Fraction) -> Fraction | None:
        """When the frame appears; times rounded to milliseconds go back to the grid of the stream's rate."""
        if frame.pts is None:
            return None
        time = frame.pts * frame.time_base
        if frame.time_base != MILLISECOND or not self._stream.average_rate:
            return time
        on_grid = round(time / step) * step
        return on_grid if abs(on_grid - time) <= ROUNDING else time

    def _decode_packet(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            return self._decoder.decode(packet)
        except av.error.FFmpegError:
            self.damaged = True
            return []

    def _from_beginning(self) -> Iterator[Timed[av.VideoFrame]]:
        yield self._first
        yield from self._decoded

    def _from_seek(self, start: Fraction) -> Iterator[Timed[av.VideoFrame]]:
        """Starts at a key frame before `start`. Indexes that lead past it, as in MPEG-TS, are not trusted."""
        for lead in SEEK_LEADS:
            self._seek(max(start - lead, Fraction(0)))
            first = next(self._decoded, None)
            if first is not None and first.time - self._first.time <= start:
                yield first
                yield from self._decoded
                return
        logging.info("%s cannot be searched by time; reading it from the beginning.", self.name)
        with VideoSource(self._file, self.name, self._limits) as again:
            yield from again._from_beginning()

    def _seek(self, time: Fraction) -> None:
        moment = time + self._first.time
        self._container.seek(int(moment / self._stream.time_base), stream=self._stream, backward=True)
        self._decoder.flush_buffers()
        self._decoded = self._decode()


def _as_browsers_play(frames: Iterator[Timed[av.VideoFrame]]) -> Iterator[Timed[av.VideoFrame]]:
    """A GIF with its shortest delays made longer, and every later frame moved with them."""
    time = Fraction(0)
    for timed in frames:
        duration = animation_delay(timed.duration)
        yield Timed(time, duration, timed.frame)
        time += duration
