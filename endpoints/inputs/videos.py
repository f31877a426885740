"""Saves the video of a request, from an http(s) URL or a data URI, to a file within the owner's limits."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import unquote_to_bytes

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from ..protocol.failure import Refused, wrong_field
from ..protocol.settings import Settings
from ..protocol.spelling import origin, parsed
from .addresses import READ_SECONDS, AddressRefused, guarded_session
from .files import new_file, rename

FILE_TYPES = ("input", "output", "temp")
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
PIECE = 1 << 16  # bytes
HEAD = 1 << 18  # bytes in which a PNG or WebP must show that it is animated
KINDS = "mp4, mov, webm, mkv, avi, ts, gif, animated webp or png"


class HostFile(NamedTuple):
    """A file in one of the host's folders; `type` is the folder: input, output or temp."""

    filename: str
    subfolder: str
    type: str

    @property
    def annotated(self) -> str:
        """The file as Load Video Frames takes it."""
        place = f"{self.subfolder}/{self.filename}" if self.subfolder else self.filename
        return place if self.type == "input" else f"{place} [{self.type}]"


def own_path(video_url: str, own_addresses: Collection[str]) -> str | None:
    """Path and query of a URL at one of our own addresses, such as http://127.0.0.1:8188; None for other URLs."""
    url = parsed(video_url)
    for address in own_addresses:
        own = parsed(address)
        if url and own and url.host and origin(url) == origin(own):
            base = own.raw_path.rstrip("/")
            if url.raw_path.startswith(f"{base}/"):
                return url.raw_path_qs[len(base) :]
    return None


def host_file(video_url: str, own_addresses: Collection[str]) -> HostFile | None:
    """The file that a URL of the host's /view names at one of our own addresses, or None.

    Names that lead out of the folder are refused; ComfyUI checks that again.
    """
    path = own_path(video_url, own_addresses)
    if path is None or not path.startswith(("/view?", "/api/view?")):
        return None
    query = URL(path).query
    name, subfolder = query.get("filename", ""), query.get("subfolder", "").strip("/")
    kind = query.get("type", "output")
    leads_out = (
        ".." in (name, *subfolder.split("/")) or "/" in name or re.search(r"[\\:\[\]\0]", subfolder + name)
    )
    if kind not in FILE_TYPES or not name or leads_out:
        return None
    return HostFile(name, subfolder, kind)


async def fetch(video_url: str, folder: Path, settings: Settings, resolver: AbstractResolver) -> Path:
    """Downloads or decodes the video to a new file in `folder`, its suffix chosen by content; the caller deletes it.

    Raises Refused with 422, or OSError if the folder can't be written. Nothing is left after an error or a cancellation.
    """
    async with new_file(folder, "video-") as file:
        if video_url[:5].lower() == "data:":
            await asyncio.to_thread(_decode, video_url, file, settings.max_video_mb)
        else:
            await _download_in_time(video_url, file, settings, resolver)
        await asyncio.to_thread(file.seek, 0)
        suffix = suffix_of(await asyncio.to_thread(file.read, HEAD))
        if suffix is None:
            raise _wrong("unsupported_video_format", f"This is not a video. Use {KINDS}.")
        video = Path(file.name + suffix)
        await rename(file, video)
        return video


def suffix_of(head: bytes) -> str | None:
    """The suffix that fits the first bytes of a video or animation; None for a still picture or anything else."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") and head[0] < 0x20:  # not text
        return ".mov" if head[8:12] == b"qt  " else ".mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return ".webm" if b"webm" in head[:64] else ".mkv"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return ".avi"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return ".gif"
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        return ".webp"
    if head[:8] == b"\x89PNG\r\n\x1a\n" and b"acTL" in head:
        return ".png"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return ".ts"
    return None


async def _download_in_time(
    url: str, file: IO[bytes], settings: Settings, resolver: AbstractResolver
) -> None:
    try:
        await asyncio.wait_for(_download(url, file, settings, resolver), settings.fetch_seconds)
    except asyncio.TimeoutError:
        limits = f"{settings.fetch_seconds:g} seconds in all, {READ_SECONDS:g} without a byte"
        raise _not_fetched(f"The video did not arrive in time ({limits}).") from None
    except aiohttp.ClientSSLError as error:
        raise _not_fetched(f"{error.host} has no valid certificate.") from None
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, AddressRefused):
            raise _not_fetched(f"{error.os_error}; the video can't be fetched from there.") from None
        raise _not_fetched(f"{error.host} could not be reached.") from None
    except aiohttp.ClientResponseError:
        raise _not_fetched("The answer is not HTTP.") from None
    except (aiohttp.ClientError, UnicodeError):  # a host name that no resolver takes is a UnicodeError
        raise _not_fetched("The video could not be downloaded: the connection failed.") from None


async def _download(address: str, file: IO[bytes], settings: Settings, resolver: AbstractResolver) -> None:
    url = _checked(address)
    for _ in range(MOST_REDIRECTS + 1):
        session = guarded_session(url, settings.allowed_hosts, settings.fetch_seconds, resolver)
        async with session, session.get(url, allow_redirects=False) as answer:
            if answer.status in REDIRECTS:
                url = _redirected(url, answer.headers.get("Location", ""))
                continue
            await _save(answer, file, settings.max_video_mb)
            return
    raise _not_fetched(f"The URL was redirected more than {MOST_REDIRECTS} times.")


async def _save(answer: aiohttp.ClientResponse, file: IO[bytes], max_mb: int) -> None:
    if answer.status != 200:
        raise _not_fetched(f"{answer.url.host} answered with HTTP {answer.status} instead of a video.")
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise _not_fetched(f"{answer.url.host} sent the video compressed, which was not requested.")
    size = answer.content_length or 0
    if size <= max_mb << 20:
        size = 0
        async for piece in answer.content.iter_chunked(PIECE):
            size += len(piece)
            if size > max_mb << 20:
                break
            await asyncio.to_thread(file.write, piece)
    if size > max_mb << 20:
        raise _too_large(max_mb)
    if not size:
        raise _not_fetched(f"{answer.url.host} sent an empty file.")


def _checked(address: str) -> URL:
    url = parsed(address)
    if url is None or url.scheme not in ("http", "https") or not url.host:
        raise _not_fetched("video_url must be an http or https URL, or a data URI that contains the video.")
    if url.user is not None or url.password is not None:
        raise _not_fetched("video_url must not contain a user name or password.")
    return url


def _redirected(url: URL, location: str) -> URL:
    target = parsed(location)
    if target is None or not location:
        raise _not_fetched(f"{url.host} redirected to nowhere.")
    target = _checked(str(url.join(target)))
    if url.scheme == "https" and target.scheme == "http":
        raise _not_fetched(f"{url.host} redirected from https to http, which is not followed.")
    return target


def _decode(uri: str, file: IO[bytes], max_mb: int) -> None:
    """Writes the bytes of a data URI, base64 or percent-encoded: in pieces, so that no other thread waits for long."""
    comma = uri.find(",")
    if comma < 0:
        raise _not_fetched("The data URI has no comma before its data.")
    is_base64 = uri[:comma].rstrip().lower().endswith(";base64")
    if (len(uri) - comma) * (0.75 if is_base64 else 0.3) > max_mb << 20:
        raise _too_large(max_mb)
    pieces = _unquoted(uri, comma + 1)
    try:
        for piece in _from_base64(pieces) if is_base64 else pieces:
            file.write(piece)
            if file.tell() > max_mb << 20:
                raise _too_large(max_mb)
    except (binascii.Error, UnicodeError):
        raise _not_fetched("The data URI is not valid base64.") from None


def _unquoted(text: str, start: int) -> Iterator[bytes]:
    """A text from an index on, percent-decoded. The library needs 16 times the memory of its input."""
    while start < len(text):
        end = start + PIECE
        split = text.rfind("%", end - 2, end)  # an escape that crosses the end
        end = split if split > start else end
        yield unquote_to_bytes(text[start:end])
        start = end


def _from_base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        rest += piece.translate(None, b" \t\r\n")
        whole = len(rest) // 4 * 4
        yield base64.b64decode(rest[:whole], validate=True)
        rest = rest[whole:]
    yield base64.b64decode(rest, validate=True)


def _not_fetched(message: str) -> Refused:
    return _wrong("file_download_error", message)


def _too_large(max_mb: int) -> Refused:
    message = f"The video is larger than {max_mb} MiB."
    return Refused(wrong_field("video_url", message, "file_too_large", max_size=max_mb << 20))


def _wrong(kind: str, message: str) -> Refused:
    return Refused(wrong_field("video_url", message, kind))
