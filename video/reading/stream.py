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
from .container import File, Limits, moving_pictures, open_container, pts_seconds, seek
from .gif import gif_packets
from .packets import packets

DEFAULT_RATE = Fraction(25)
MILLISECOND = Fraction(1, 1000)  # the tick of Matroska and WebM
RESTART = Fraction(1, 4)  # seconds: from a larger step back in time on, the times are counted anew
STORES_END = ("matroska", "flv")  # whose header says when the file ends, not how long it is
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
        self._grid: Fraction | None = None
        self.container = open_container(file, name)
        try:
            self.stream = self._picture_stream()
            self.decoder = self._open_decoder()
            self._decoded = self._decode()
            self.origin = self._grid = self.first().pts_seconds
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
        """Goes to a key frame before `time`; False where the file can't be searched or that leads past `latest`."""
        if not self._times_ascend() or not seek(self.container, self.stream, time):
            return False
        self.decoder.flush_buffers()
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None or first.pts_seconds > latest:
            return False
        self._decoded = itertools.chain((first,), self._decoded)
        return True

    def duration(self) -> Fraction | None:
        """Seconds, None when the file does not say. All that is stored is when the pictures or the file end."""
        tag = CLOCK.fullmatch(self.stream.metadata.get("DURATION", ""))
        whole = self.container.duration
        if tag:
            end: Fraction | None = int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3])
        elif whole and self.container.format.name.startswith(STORES_END):
            end = Fraction(whole, av.time_base)
        elif self.stream.duration:
            begin = 0 if self._tells_end() else self.stream.start_time or 0
            end = pts_seconds(begin + self.stream.duration, self.stream)
        else:
            end = Fraction((self.container.start_time or 0) + whole, av.time_base) if whole else None
        if end is None or end <= 0:
            return None
        return end - self.origin if end > self.origin else end  # some fragments tell their length alone

    def duration_is_rough(self) -> bool:
        """Whether the duration may be that of sound which goes on after the pictures, or FFmpeg's guess."""
        of_file = self.container.format.name.startswith((*STORES_END, "mpegts"))
        return of_file and "DURATION" not in self.stream.metadata

    def _picture_stream(self) -> av.VideoStream:
        stream = moving_pictures(self.container)
        if stream is None:
            raise ValueError(
                f"{self._name} has no moving pictures, only sound or a cover image. Choose a video."
            )
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
            created = av.CodecContext.create(other, "r")
            decoder = created if isinstance(created, av.VideoCodecContext) else decoder
        decoder.options = {"max_pixels": str(self._limits.max_pixels)}
        decoder.thread_type = "AUTO"
        decoder.thread_count = min(os.cpu_count() or 1, MOST_THREADS)
        return decoder

    def _tells_end(self) -> bool:
        """Whether FFmpeg tells when the stream ends as its duration: in fragments, but for what an edit list moves them."""
        places = self.stream.index_entries
        in_fragments = self.container.format.name.startswith("mov") and not self.stream.frames
        return in_fragments and len(places) > 0 and places[-1].timestamp < (self.stream.duration or 0)

    def _times_ascend(self) -> bool:
        """Whether a time names one place: an edit list may show a part of the file before an earlier one."""
        times = [entry.timestamp for entry in self.stream.index_entries]
        return all(time <= then for time, then in itertools.pairwise(times))

    def _decode(self) -> Frames:
        """Decodes on from where the container stands; broken packets are passed over.

        A frame at the time of the one before, or a little earlier, takes its place. One far earlier, as after frames
        without a time, follows the one before, and so do all later ones.
        """
        step = 1 / Fraction(self.stream.average_rate or DEFAULT_RATE)
        last: Fraction | None = None
        end, shift = Fraction(0), Fraction(0)
        for packet in self._packets():
            for frame in self._decode_packet(packet):
                time = self._time(frame, step)
                if time is None:
                    time = end
                elif last is not None:
                    time += shift
                    if last - time > RESTART:
                        shift += end - time
                        time = end
                    time = max(time, last)
                    if time > last and not self.stream.average_rate:
                        step = time - last
                duration = pts_seconds(frame.duration, frame) or step
                # Matroska cuts durations to whole milliseconds.
                if frame.time_base == MILLISECOND and abs(duration - step) < MILLISECOND:
                    duration = step
                last, end = time, time + duration
                yield TimedFrame(time, duration, frame)

    def _packets(self) -> Iterator[av.Packet]:
        found = packets(self.container, self.stream)
        return gif_packets(found) if self.decoder.codec.canonical_name == "gif" else found

    def _time(self, frame: av.VideoFrame, step: Fraction) -> Fraction | None:
        """When the frame appears; times rounded to milliseconds go back to the grid of the stream's rate."""
        # AVI has no times of its own, only the order of decoding; what is made of that goes back and forth.
        time = pts_seconds(frame.dts if self.container.format.name == "avi" else frame.pts, frame)
        if time is None or self._grid is None:
            return time
        if frame.time_base != MILLISECOND or not self.stream.average_rate:
            return time
        on_grid = self._grid + round((time - self._grid) / step) * step
        return on_grid if abs(on_grid - time) <= MILLISECOND else time

    def _decode_packet(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            return self.decoder.decode(packet)
        except av.error.FFmpegError:
            self.damaged = True
            return []
