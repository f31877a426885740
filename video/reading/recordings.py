"""Matroska files that `cat a.mkv b.mkv c.mkv` makes, for FFmpeg, which stops after a later recording that tells its size."""

from __future__ import annotations

import io
import os

HEAD, SEGMENT = (
    b"\x1a\x45\xdf\xa3",
    b"\x18\x53\x80\x67",
)  # what a recording begins with, and what holds its frames
ROOM = 300  # bytes, for a head and the size of its segment


class Recordings:
    """A file to read in which all segments but the first say that their size is not known, which is allowed."""

    def __init__(self, file: str | io.BytesIO) -> None:
        self._file, self._at = file, 0
        self._size = os.path.getsize(file) if isinstance(file, str) else len(file.getvalue())

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place and returns it."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int) -> bytes:
        """The next bytes. The file is open only here, so that it need not be closed."""
        begin = max(0, self._at - ROOM)
        data = bytearray(self._stored(begin, self._at + size + ROOM))
        head = data.find(HEAD, 0 if begin else 1)
        while head >= 0:
            if place := _segment_size(data, head):
                data[place] = _unknown(data[place])
            head = data.find(HEAD, head + 1)
        found = bytes(data[self._at - begin :][:size])
        self._at += len(found)
        return found

    def are_several(self) -> bool:
        """Whether this is Matroska and anything follows the first recording, or its end is not known."""
        first = self._stored(0, ROOM)
        place = _segment_size(first, 0) if first.startswith(HEAD) else None
        if place is None:
            return False
        size = first[place]
        return size == _unknown(size) or place.stop + _number(size) < self._size

    def _stored(self, begin: int, end: int) -> bytes:
        if not isinstance(self._file, str):
            return self._file.getvalue()[begin:end]
        with open(self._file, "rb", buffering=0) as opened:
            opened.seek(begin)
            return opened.read(end - begin)


def _segment_size(data: bytes | bytearray, head: int) -> slice | None:
    """Where the size of the segment after that head is stored, None where none follows."""
    place = _size_at(data, head + len(HEAD))
    segment = place.stop + _number(data[place])
    if data[segment : segment + len(SEGMENT)] != SEGMENT:
        return None
    size = _size_at(data, segment + len(SEGMENT))
    return size if size.start < size.stop <= len(data) else None


def _size_at(data: bytes | bytearray, at: int) -> slice:
    """The bytes of a size: as many as its first has bits up to and with the first that is set."""
    return slice(at, at + (9 - data[at].bit_length() if any(data[at : at + 1]) else 0))


def _number(size: bytes | bytearray) -> int:
    return int.from_bytes(size, "big") & ~(1 << 7 * len(size))


def _unknown(size: bytes | bytearray) -> bytes:
    """A size of as many bytes, all of whose bits are set."""
    return ((2 << 7 * len(size)) - 1).to_bytes(len(size), "big")
