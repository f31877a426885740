"""Files that clients upload before they send a request, kept until they expire."""

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
    """Uploaded files, each in a folder of its own whose name can't be guessed: whoever knows the name may use the file.

    most: bytes of one file. keep: seconds until a file expires.
    """

    def __init__(self, folder: Path, most: int, keep: float) -> None:
        self.folder, self.most, self.keep = folder, most, keep

    def new(self, file_name: str) -> str:
        """The path to PUT a new file to, and to GET it from. Deletes expired files."""
        self._expire()
        token = secrets.token_hex(16)
        (self.folder / token).mkdir(parents=True)
        name = UNSAFE.sub("_", file_name)[-LONGEST_NAME:].lstrip(".") or "upload"
        return f"{PREFIX}{token}/{name}"

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """Stores a file at a path from `new`, whole or not at all. Errors: Refused with 404 or 413; OSError."""
        target = self._place(path)
        if target is None:
            raise refuse(404, "This upload was not initiated, or has expired.")
        part = target.with_name(".part")  # a name that no upload has
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
        """The uploaded file at a path, which may have a query; None if there is none."""
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
            with suppress(FileNotFoundError):  # another call has deleted it
                if entry.stat().st_mtime < time.time() - self.keep:
                    shutil.rmtree(entry, ignore_errors=True)
