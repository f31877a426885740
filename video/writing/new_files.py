"""New files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av.error

REASONS = {
    errno.ENOSPC: "the disk is full. Free some space and run again",
    errno.EDQUOT: "the disk quota is used up. Free some space and run again",
    errno.EFBIG: "the file grew past the size that the system allows. Lower the quality or the number of frames",
    errno.EACCES: "the folder is not writable. Change its permissions or choose another filename_prefix",
    errno.EPERM: "the folder is not writable. Change its permissions or choose another filename_prefix",
    errno.EROFS: "the disk is read-only. Choose another output folder",
    errno.ENOTDIR: "a part of its folder is a file. Choose another filename_prefix",
    errno.EEXIST: "a part of its folder is a file. Choose another filename_prefix",
    errno.ENAMETOOLONG: "the name is too long. Shorten filename_prefix",
}


@contextmanager
def write_errors(name: str) -> Iterator[None]:
    """Turns errors of the file system and the encoder into an OSError or ValueError that names the file, never its folder."""
    try:
        yield
    except OSError as error:
        code = error.errno
        if code is None:  # not from the file system
            raise
        reason = REASONS.get(code) or os.strerror(code)
        raise OSError(code, f"{name} could not be written: {reason}.") from error
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{name} could not be encoded ({error.strerror}): its frames may be too large or too many per second for "
            "this kind of file. Scale them down, lower fps or choose another format."
        ) from error


class NewFiles:
    """Hidden temporary paths in the final folder, one for each suffix, which `keep` turns into finished files."""

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        self._folder = folder
        self._hidden = {suffix: folder / f".{uuid.uuid4().hex}{suffix}" for suffix in suffixes}
        self._reserved: list[Path] = []

    def __getitem__(self, suffix: str) -> Path:
        return self._hidden[suffix]

    def keep(self, stem: Callable[[int], str], number: int) -> Path:
        """Gives the files the name `stem(number)`, or that of the next number that is free for all of them.

        Returns the path of the first one.
        """
        while not self._reserve(stem(number)):
            number += 1
        kept = list(self._reserved)
        for hidden, path in zip(self._hidden.values(), kept, strict=True):
            os.replace(hidden, path)
        self._reserved.clear()
        return kept[0]

    def discard(self) -> None:
        """Removes whatever was written but not kept."""
        for path in (*self._hidden.values(), *self._reserved):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _reserve(self, stem: str) -> bool:
        """Creates empty files of the final names, or none if one of them already exists."""
        for suffix in self._hidden:
            path = self._folder / f"{stem}{suffix}"
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                while self._reserved:
                    os.unlink(self._reserved.pop())
                return False
            self._reserved.append(path)
        return True


@contextmanager
def new_files(folder: Path, *suffixes: str) -> Iterator[NewFiles]:
    """Files to write into; they are removed on any error or cancellation before `keep`."""
    files = NewFiles(folder, suffixes)
    try:
        yield files
    finally:
        files.discard()
