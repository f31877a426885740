"""Files that the JavaScript client uploads before it sends a request: kept here until they expire."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from .failure import refuse

PREFIX = "/fal/storage/files/"
UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)
LONGEST_NAME = 100


class Uploads:
    """A folder of uploaded files, each in a folder of its own whose name can't be guessed: who knows it may use it.

    most: bytes of one file. keep: seconds.
    """

    def __init__(self, folder: Path, most: int, keep: float) -> None:
        self.folder, self.most, self.keep = folder, most, keep

    def new(self, file_name: str) -> str:
        """The path to put a file to, and to get it from. Expired ones are deleted."""
        self._expire()
        token = secrets.token_hex(16)
        (self.folder / token).mkdir(parents=True)
        name = UNSAFE.sub("_", file_name)[-LONGEST_NAME:].lstrip(".") or "upload"
        return f"{PREFIX}{token}/{name}"

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """Stores what is put to a path that `new` gave. Errors: Refused with 404, 413; OSError. Then nothing is left."""
        target = self._place(path)
        if target is None:
            raise refuse(404, "This upload was not initiated, or has expired.")
        part = target.with_name(".part")  # which no upload is named
        try:
            size = 0
            with part.open("wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if size > self.most:
                        raise refuse(413, f"The file is larger than {self.most >> 20} MiB.")
                    file.write(piece)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def find(self, path: str) -> Path | None:
        """The uploaded file of a path, with or without a query; None where there is none."""
        place = self._place(path.partition("?")[0])
        return place if place and place.is_file() else None

    def _place(self, path: str) -> Path | None:
        found = re.fullmatch(re.escape(PREFIX) + r"([0-9a-f]{32})/([\w-][\w.-]*)", path)
        if found is None or not (self.folder / found[1]).is_dir():
            return None
        return self.folder / found[1] / found[2]

    def _expire(self) -> None:
        if not self.folder.is_dir():
            return
        for entry in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another call was faster
                if entry.stat().st_mtime < time.time() - self.keep:
                    shutil.rmtree(entry, ignore_errors=True)
