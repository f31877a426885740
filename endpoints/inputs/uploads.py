"""Files that clients upload before they send a request, kept until they expire."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..protocol.failure import Failure, Refused, refuse
from .files import new_file, rename

PREFIX = "/fal/storage/files/"
TOKEN = re.compile("[0-9a-f]{32}")
UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)
LONGEST_NAME = 100
MOST_PARTS = 10_000
LATEST = 0xFFFF_FFFF  # that a folder's name can hold
NOT_INITIATED = Failure(404, "This upload was not initiated, or has expired.")


class Uploads:
    """Uploaded files, each in a folder of its own whose name can't be guessed: whoever knows the name may use the file.

    most: bytes of one file. keep: seconds until a file expires. A folder's name begins with the time of that, in hex.
    """

    def __init__(self, folder: Path, most: int, keep: float) -> None:
        self.folder, self.most, self.keep = folder, most, keep
        self._ahead = time.time() - time.monotonic()

    def new(self, file_name: str, keep: float | None = None) -> str:
        """The path to PUT a new file to, and to GET it from. keep: seconds, if fewer. Deletes expired files."""
        self._expire()
        expires = min(self._now() + min(self.keep, keep or self.keep), LATEST)
        token = f"{int(expires):08x}{secrets.token_hex(12)}"
        (self.folder / token).mkdir(parents=True)
        name = UNSAFE.sub("_", file_name)[-LONGEST_NAME:].lstrip(".") or "upload"
        return f"{PREFIX}{token}/{name}"

    async def write(self, path: str, pieces: AsyncIterator[bytes], part: int | None = None) -> None:
        """Stores a file, or a numbered part of it, at a path from `new`: whole or not at all.

        Errors: Refused with 404 or 413; OSError.
        """
        target = await asyncio.to_thread(self._place, path)
        if part is not None and not 0 < part <= MOST_PARTS:
            raise Refused(NOT_INITIATED)
        size = 0 if part is None else await asyncio.to_thread(size_of_parts, target.parent, part)
        async with new_file(target.parent) as file:
            async for piece in pieces:
                size += len(piece)
                if size > self.most:
                    raise self._too_large()
                await asyncio.to_thread(file.write, piece)
            await rename(file, target if part is None else target.with_name(f".{part}"))

    async def join(self, path: str, parts: Sequence[int]) -> None:
        """Makes the file of its parts. Errors: Refused with 400, 404 or 413; OSError."""
        target = await asyncio.to_thread(self._place, path)
        files = [target.with_name(f".{part}") for part in parts]
        async with new_file(target.parent) as whole:
            await asyncio.to_thread(self._join, files, whole)
            await rename(whole, target)
        for file in files:
            await asyncio.to_thread(file.unlink, missing_ok=True)

    def _join(self, files: Sequence[Path], whole: IO[bytes]) -> None:
        uploaded = set(Path(whole.name).parent.iterdir())
        missing = [file.name[1:] for file in files if file not in uploaded]
        if missing or not files:
            raise refuse(
                400, f"These parts were not uploaded: {', '.join(missing[:10]) or 'all'}.", "bad_request"
            )
        if sum(file.stat().st_size for file in files) > self.most:
            raise self._too_large()
        for file in files:
            with file.open("rb") as part:
                shutil.copyfileobj(part, whole, 1 << 20)

    def find(self, path: str) -> Path | None:
        """The uploaded file at a path; None if there is none."""
        with suppress(Refused):
            place = self._place(path)
            return place if place.is_file() else None
        return None

    def _too_large(self) -> Refused:
        return refuse(413, f"The file is larger than {self.most >> 20} MiB.")

    def _place(self, path: str) -> Path:
        """Where the file lies that a path from `new` names. Errors: Refused."""
        found = re.fullmatch(rf"{PREFIX}({TOKEN.pattern})/([\w-][\w.-]{{0,{LONGEST_NAME - 1}}})", path)
        if found is None or self._has_expired(found[1]) or not (self.folder / found[1]).is_dir():
            raise Refused(NOT_INITIATED)
        return self.folder / found[1] / found[2]

    def _expire(self) -> None:
        if not self.folder.is_dir():
            return
        for entry in self.folder.iterdir():
            if TOKEN.fullmatch(entry.name) and self._has_expired(entry.name):
                shutil.rmtree(entry, ignore_errors=True)

    def _has_expired(self, token: str) -> bool:
        return int(token[:8], 16) < self._now()

    def _now(self) -> float:
        """The time, as if nobody had set the clock since the start."""
        return self._ahead + time.monotonic()


def size_of_parts(folder: Path, without: int) -> int:
    return sum(part.stat().st_size for part in folder.glob(".[0-9]*") if part.name != f".{without}")
