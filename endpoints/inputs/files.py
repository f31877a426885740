"""Files written while the event loop serves others: every call that touches the disk runs in a thread."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO


@asynccontextmanager
async def new_file(folder: Path, prefix: str = ".new") -> AsyncIterator[IO[bytes]]:
    """An open file in a folder. It is gone when the block ends, unless it was renamed."""
    opening = asyncio.ensure_future(asyncio.to_thread(_open, folder, prefix))
    try:
        yield await asyncio.shield(opening)
    finally:
        await asyncio.shield(asyncio.to_thread(_discard, await opening))


async def rename(file: IO[bytes], target: Path) -> None:
    """Closes a new file and gives it its name, or that of another one; both outlive a power cut once this returns.

    If the caller is cancelled meanwhile, no file is left.
    """
    renaming = asyncio.ensure_future(asyncio.to_thread(_rename, file, target))
    try:
        await asyncio.shield(renaming)
    except asyncio.CancelledError:  # while the thread goes on
        with suppress(OSError):
            await renaming
            await asyncio.to_thread(target.unlink, missing_ok=True)
        raise


def _rename(file: IO[bytes], target: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
    os.replace(file.name, target)
    for folder in (target.parent, target.parent.parent):  # its folder may be as new
        with suppress(OSError):  # not every system can do this to a folder
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _open(folder: Path, prefix: str) -> IO[bytes]:
    return tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, delete=False)


def _discard(file: IO[bytes]) -> None:
    with suppress(OSError):  # of what could not be written, and is not wanted
        file.close()
    Path(file.name).unlink(missing_ok=True)
