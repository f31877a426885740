"""The picture stream of an open file: its frames in order, from the beginning or from a key frame before a moment."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from fractions import Fraction

import av
import av.error

from ..timing import TimedFrame
from .container import File, Limits, open_container, packets

DEFAULT_RATE = Fraction(25)
MILLISECOND = Fraction(1, 1000)  # the tick of Matroska and WebM
MOST_THREADS = 2  # FFmpeg takes one per core if it may, and each holds frames, some of them after its end
CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of these drop the transparency

Frames = Iterator[TimedFrame[av.VideoFrame]]


class PictureStream:
    """The first moving pictures of a file and their decoder. `origin` is the time of the first frame in seconds.

    Frames may be read once. Raises ValueError when there is nothing to decode.
    """

    def __init__(self, file: File, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self.damaged = False
        self.origin: Fraction | None = None
        self.container = open_container(file, name)
        try:
            self.stream = self._picture_stream()
            self.decoder = self._open_decoder()
            self._decoded = self._decode()
            self.origin = self.first().time
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file. The decoder's memory is free when this object is."""
        self.container.close()
        self._decoded = iter(())  # a suspended generator would keep this object alive

    def first(self) -> TimedFrame[av.VideoFrame]:
        """The next frame, which stays the next one."""
        first = next(self._decoded, None)
        if first is None:
            raise ValueError(
                f"{self._name} has no frame that can be decoded. Save or download the video again."
            )
        self._decoded = itertools.chain((first,), self._decoded)
        return first

    def frames(self) -> Frames:
        """The frames from where the stream stands, with the file's own times in seconds."""
        return self._decoded

    def seek(self, time: Fraction, latest: Fraction) -> bool:
        """Goes to a key frame before `time`; False where that leads past `latest`, as it may in MPEG-TS."""
        self.container.seek(int(time / self.stream.time_base), stream=self.stream, backward=True)
        self.decoder.flush_buffers()
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None or first.time > latest:
            return False
        self._decoded = itertools.chain((first,), self._decoded)
        return True

    def duration(self) -> Fraction | None:
        """Seconds, None when the file does not say. A Matroska file's own duration may be that of its sound."""
        if self.stream.duration:
            return self.stream.duration * self.stream.time_base
        tag = CLOCK.fullmatch(self.stream.metadata.get("DURATION", ""))
        if tag:
            return int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3])
        if self.container.duration:
            return Fraction(self.container.duration, av.time_base)
        return None

    def _picture_stream(self) -> av.VideoStream:
        streams = [
            s for s in self.container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
        ]
        if not streams:
            raise ValueError(
                f"{self._name} has no moving pictures, only sound or a cover image. Choose a video."
            )
        stream = next((s for s in streams if s.disposition & av.stream.Disposition.default), streams[0])
        if stream.codec_context is None:
            raise ValueError(
                f"{self._name} is packed with a codec that is not supported. Convert it to H.264 mp4."
            )
        return stream

    def _open_decoder(self) -> av.VideoCodecContext:
        decoder = self.stream.codec_context
        self._limits.check_pixels(self._name, decoder.width, decoder.height)
        other = WITH_ALPHA.get(decoder.codec.canonical_name)
        if self.stream.metadata.get("alpha_mode") == "1" and other in av.codecs_available:
            decoder = av.CodecContext.create(other, "r")
        decoder.options = {"max_pixels": str(self._limits.max_pixels)}
        decoder.thread_type = "AUTO"
        decoder.thread_count = min(os.cpu_count() or 1, MOST_THREADS)
        return decoder

    def _decode(self) -> Frames:
        """Decodes on from where the container stands; broken packets are passed over."""
        step = 1 / Fraction(self.stream.average_rate or DEFAULT_RATE)
        last: Fraction | None = None
        for packet in packets(self.container, self.stream):
            for frame in self._decode_packet(packet):
                time = self._time(frame, step)
                if last is not None and (time is None or time <= last):
                    time = last + step
                elif last is not None and not self.stream.average_rate:
                    step = time - last
                last = time or Fraction(0)
                duration = frame.duration * frame.time_base
                # Matroska cuts durations to whole milliseconds.
                whole = frame.time_base == MILLISECOND and abs(duration - step) < MILLISECOND
                yield TimedFrame(last, step if whole else duration or step, frame)

    def _time(self, frame: av.VideoFrame, step: Fraction) -> Fraction | None:
        """When the frame appears; times rounded to milliseconds go back to the grid of the stream's rate."""
        # AVI has no times of its own, only the order of decoding; what is made of that goes back and forth.
        stamp = frame.dts if self.container.format.name == "avi" else frame.pts
        if stamp is None:
            return None
        time = stamp * frame.time_base
        if frame.time_base != MILLISECOND or not self.stream.average_rate or self.origin is None:
            return time
        on_grid = self.origin + round((time - self.origin) / step) * step
        return on_grid if abs(on_grid - time) <= MILLISECOND else time

    def _decode_packet(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            return self.decoder.decode(packet)
        except av.error.FFmpegError:
            self.damaged = True
            return []
