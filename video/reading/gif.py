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
CONTROL = 0xF9  # the extension that holds a delay
NO_DELAY = 10  # hundredths of a second: what browsers take for none
HAS_PALETTE, PALETTE_BITS = 0x80, 0x07


def gif_delays(file: File, name: str) -> list[Fraction]:
    """How long each frame is shown (seconds), by the heads of the frames; FFmpeg's own sum has the file's delays."""
    with open_container(file, name) as container:
        found = (
            packet for packet in gif_packets(packets(container, container.streams.video[0])) if packet.size
        )
        return [
            animation_delay(pts_seconds(packet.duration, packet) or Fraction(0))
            for packet in itertools.islice(found, MOST_FRAMES)
        ]


def gif_packets(found: Iterable[av.Packet]) -> Iterator[av.Packet]:
    """A packet for each image of a GIF, with its own delay, and with the palette of the file where it has none.

    FFmpeg joins the images before the first delay into one packet, and repeats a delay where later ones have none.
    It paints uncovered areas in the file's background colour, which is an entry of the palette of the file. Without
    that palette it leaves them transparent, as browsers do.
    """
    palette, bits = b"", 0
    for packet in found:
        data = bytes(packet) if packet.size else b""
        head = b""
        if data.startswith(SIGNATURES) and len(data) > SCREEN:
            flags = data[10]
            bits = flags & PALETTE_BITS
            end = SCREEN + (3 * 2 ** (bits + 1) if flags & HAS_PALETTE else 0)
            palette = data[SCREEN:end]
            head = data[:10] + bytes([flags & ~HAS_PALETTE]) + data[11:SCREEN]
            data = data[end:]
        if not data:
            yield packet
        for blocks, image, has_delay in _images(data):
            changed: av.Packet = av.Packet(head + _with_palette(blocks, image, palette, bits))
            changed.stream, changed.time_base = packet.stream, packet.time_base
            changed.pts, changed.dts = packet.pts, packet.dts
            changed.duration = packet.duration if has_delay else NO_DELAY
            yield changed
            head = b""


def _images(data: bytes) -> Iterator[tuple[bytes, int, bool]]:
    """The blocks that belong to each image, where it lies in them, and whether they hold a delay; the last as it is cut off."""
    begin = at = 0
    image, has_delay = -1, False
    try:
        while data[at] in (EXTENSION, IMAGE):
            if data[at] == IMAGE:
                image, flags = at, data[at + 9]
                at += 11 + (3 * 2 ** ((flags & PALETTE_BITS) + 1) if flags & HAS_PALETTE else 0)
            else:
                has_delay |= data[at + 1] == CONTROL
                at += 2
            while data[at]:
                at += data[at] + 1
            at += 1
            if image >= begin:
                yield data[begin:at], image - begin, has_delay
                begin, has_delay = at, False
    except IndexError:
        if image >= begin:
            yield data[begin:], image - begin, has_delay


def _with_palette(blocks: bytes, image: int, palette: bytes, bits: int) -> bytes:
    """The blocks of an image with that palette, unless it has one."""
    at = image + 9
    if image < 0 or at >= len(blocks) or not palette or blocks[at] & HAS_PALETTE:
        return blocks
    flags = blocks[at] & ~PALETTE_BITS | HAS_PALETTE | bits
    return blocks[:at] + bytes([flags]) + palette + blocks[at + 1 :]
