"""The packets of a stream; those of recordings joined into one file, each with times of its own, on one time axis."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import av.error

from .container import moving_pictures, pts_seconds

BACK = Fraction(1, 4)  # seconds: a larger step back in time is a recording that begins anew
FORWARD = Fraction(10)  # seconds: a larger step ahead is another recording in MPEG-TS, as for FFmpeg's tools
JOINED = ("mpegts", "matroska,webm")  # what FFmpeg reads on where another file of its kind begins
MOST_HELD = 500  # packets, of sound that jumps without its pictures


def packets(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    """The packets of a stream, then an empty one, which drains its decoder. Where a file can't be read on, it ends.

    The times of an MPEG-TS or Matroska file may begin anew midway, as where `cat a.ts b.ts` made it: its parts follow
    each other.
    """
    pictures = moving_pictures(container) if container.format.name in JOINED else None
    if pictures is None:
        yield from _demuxed(container, stream)
    else:
        placed = without_jumps(
            _demuxed(container, *dict.fromkeys((stream, pictures))),
            pictures,
            FORWARD if container.format.name == "mpegts" else None,
        )
        yield from (packet for packet in placed if packet.stream_index == stream.index)
    last: av.Packet = av.Packet()
    last.stream = stream
    if stream.time_base is not None:
        last.time_base = stream.time_base
    yield last


def without_jumps(
    packets: Iterable[av.Packet], pictures: av.VideoStream, longest_pause: Fraction | None
) -> Iterator[av.Packet]:
    """Moves each recording's packets to follow the pictures of the one before; sound keeps its distance from them.

    A recording begins where the times of the pictures jump. Its sound may lie before that in the file: such packets
    come after the picture that tells where they belong. What sound the recording before has left is covered by it.
    A step ahead of more than `longest_pause` seconds is a jump too.
    """
    recordings = _Recordings(pictures, longest_pause)
    for packet in packets:
        yield from recordings.placed(packet)
    yield from recordings.rest()


class _Recordings:
    """Which recording each packet of the pictures and of one sound track belongs to. `shift` is seconds to add."""

    def __init__(self, pictures: av.VideoStream, longest_pause: Fraction | None) -> None:
        self._pictures, self._longest_pause = pictures, longest_pause
        self._frame = 1 / Fraction(pictures.average_rate or 25)
        self._end = self._shift = self._sound_shift = Fraction(0)
        self._begin = 0  # where the newest recording begins, in bytes
        self._last: dict[int, Fraction] = {}  # by stream, on its own clock: durations may be wrong
        self._held: list[av.Packet] = []

    def placed(self, packet: av.Packet) -> list[av.Packet]:
        """The packets whose place is known now that this one has come."""
        jumps = self._jumps(packet)
        if packet.stream_index == self._pictures.index:
            return self._picture(packet, jumps)
        if self._sound_shift != self._shift and (jumps or (packet.pos or 0) >= self._begin):
            self._sound_shift = self._shift
        elif jumps or self._held:
            self._held.append(packet)
            return self.rest() if len(self._held) > MOST_HELD else []
        return [_moved(packet, self._sound_shift)]

    def rest(self) -> list[av.Packet]:
        """The packets that were held back, in the newest recording."""
        self._sound_shift = self._shift
        held, self._held = self._held, []
        return [_moved(packet, self._shift) for packet in held]

    def _picture(self, packet: av.Packet, jumps: bool) -> list[av.Packet]:
        time = pts_seconds(packet.pts, packet)
        if time is None:
            return [packet]
        if jumps:
            self._shift, self._begin = self._end - time, packet.pos or 0
        self._end = max(self._end, time + self._shift + self._duration(packet))
        return [_moved(packet, self._shift), *(self.rest() if jumps and self._held else ())]

    def _jumps(self, packet: av.Packet) -> bool:
        """Whether a packet is in no time near the one before it in its stream."""
        time = pts_seconds(packet.dts, packet)
        if time is None:
            return False
        step = time - self._last.get(packet.stream_index, time)
        self._last[packet.stream_index] = time
        return step < -BACK or (self._longest_pause is not None and step > self._longest_pause)

    def _duration(self, packet: av.Packet) -> Fraction:
        known = pts_seconds(packet.duration, packet)
        return known or (self._frame if packet.stream_index == self._pictures.index else Fraction(0))


def _moved(packet: av.Packet, shift: Fraction) -> av.Packet:
    if shift and packet.time_base:
        ticks = round(shift / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
    return packet


def _demuxed(container: av.container.InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet]:
    """PyAV loses count at the end of a file when streams have turned up midway, as they may in MPEG-TS."""
    try:
        yield from (packet for packet in container.demux(*streams) if packet.size)
    except (av.error.FFmpegError, IndexError) as error:
        logging.debug("Reading stopped: %s", error)
