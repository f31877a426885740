"""The body of an HTTP request, read and decoded within bounds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from ..protocol.failure import Failure, Refused, refuse

MOST_BESIDE = 512 << 10  # bytes of JSON beside its longest string: two prompts, every character escaped twice


class Weight:
    """How much of a JSON text, added piece by piece, lies beside its longest string.

    Only a data URI makes a request large. Many small values are not a request: parsing them stops every other thread
    of the process for seconds, and takes 30 times their size in memory.
    """

    def __init__(self) -> None:
        self._size = self._longest = 0
        self._is_inside = False  # whether the last piece ended in a string
        self._string = 0  # its length so far
        self._backslash = b""

    @property
    def beside(self) -> int:
        return self._size - self._longest

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        text = self._backslash + piece
        if (len(text) - len(text.rstrip(b"\\"))) % 2:  # the escaped character is in the next piece
            text, self._backslash = text[:-1], b"\\"
        else:
            self._backslash = b""
        first, *rest = text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        string = self._string + len(first) if self._is_inside else 0
        strings = rest[self._is_inside :: 2]  # of the parts between quotes, every second one is in a string
        self._longest = max(self._longest, string, max(map(len, strings), default=0))
        self._is_inside ^= len(rest) % 2 == 1
        self._string = (len(rest[-1]) if rest else string) if self._is_inside else 0


async def read_body(request: web.Request, most: int) -> bytes:
    """A body of JSON. most: bytes. Errors: Refused with 413 as soon as it is too large or has too many values."""
    too_large = refuse(413, f"The request is larger than {most / (1 << 20):g} MiB.")
    if (request.content_length or 0) > most:
        raise too_large
    body, weight = bytearray(), Weight()
    async for piece in pieces(request):
        body += piece
        weight.add(piece)
        if len(body) > most:
            raise too_large
        if weight.beside > MOST_BESIDE:
            raise refuse(
                413, f"The request is larger than {MOST_BESIDE >> 10} KiB beside its longest string."
            )
    return bytes(body)


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The body, piece by piece. Errors: Refused with 400 if it is not encoded as its header says."""
    try:
        async for piece in request.content.iter_chunked(1 << 18):
            yield piece
    except web.RequestPayloadError as error:
        raise refuse(400, "The body is not encoded as its headers say.", "bad_request") from error


def decode(body: bytes | str) -> Any:
    """The JSON value of a body. Errors: Refused with 422."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # no JSON, not UTF-8, or nested too deeply
        problem = {"loc": ["body"], "msg": f"JSON decode error: {error}", "type": "json_invalid"}
        raise Refused(Failure(422, [problem])) from None
