"""GIF packets as browsers understand them, before FFmpeg decodes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av

from ..timing import animation_delay
from .apng import MOST_FRAMES
from .container import File, open_container, pts_seconds
from .packets import packets

SIGNATURES = (b"GIF87a", b"GIF89a")
SCREEN = 13  # bytes: signature, size, flags, background colour, aspect
EXTENSION, IMAGE = 0x21, 0x2C
HAS_PALETTE, PALETTE_BITS = 0x80, 0x07


def gif_delays(file: File, name: str) -> list[Fraction]:
    """How long each frame is shown (seconds), by the heads of the frames; FFmpeg's own sum has the file's delays."""
    with open_container(file, name) as container:
        found = (packet for packet in packets(container, container.streams.video[0]) if packet.size)
        return [
            animation_delay(pts_seconds(packet.duration, packet) or Fraction(0))
            for packet in itertools.islice(found, MOST_FRAMES)
        ]


def with_local_palettes(found: Iterable[av.Packet]) -> Iterator[av.Packet]:
    """The packets of a GIF with the palette of the file moved into each frame that has none of its own.

    FFmpeg paints uncovered areas in the file's background colour, which is an entry of the palette of the file.
    Without that palette it leaves them transparent, as browsers do.
    """
    palette, bits = b"", 0
    for packet in found:
        data = bytes(packet) if packet.size else b""
        head = b""
        if data.startswith(SIGNATURES) and len(data) > SCREEN and data[10] & HAS_PALETTE:
            bits = data[10] & PALETTE_BITS
            end = SCREEN + 3 * 2 ** (bits + 1)
            palette = data[SCREEN:end]
            head = data[:10] + bytes([data[10] & ~HAS_PALETTE]) + data[11:SCREEN]
            data = data[end:]
        elif data.startswith(SIGNATURES):
            palette = b""
        yield _with_data(packet, head + _with_palette(data, palette, bits)) if palette else packet


def _with_palette(blocks: bytes, palette: bytes, bits: int) -> bytes:
    """The blocks of a frame with that palette, unless it has one."""
    at = 0
    try:
        while blocks[at] == EXTENSION:
            at += 2
            while blocks[at]:
                at += blocks[at] + 1
            at += 1
        flags = blocks[at + 9]
        if blocks[at] != IMAGE or flags & HAS_PALETTE:
            return blocks
    except IndexError:  # cut off
        return blocks
    flags = flags & ~PALETTE_BITS | HAS_PALETTE | bits
    return blocks[: at + 9] + bytes([flags]) + palette + blocks[at + 10 :]


def _with_data(packet: av.Packet, data: bytes) -> av.Packet:
    if not data:
        return packet
    changed: av.Packet = av.Packet(data)
    changed.stream, changed.time_base = packet.stream, packet.time_base
    changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
    return changed
