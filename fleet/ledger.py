"""What has been rendered into a folder: one row for each name, in a SQLite file beside the results."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

FILE_NAME = "render.sqlite3"
VERSION = 1
SCHEMA = """CREATE TABLE clips (name TEXT PRIMARY KEY, digest TEXT NOT NULL, state TEXT NOT NULL, file TEXT,
    request TEXT NOT NULL, attempts INTEGER NOT NULL, seconds REAL, node TEXT, reason TEXT) WITHOUT ROWID"""
COLUMNS = ("name", "digest", "state", "file", "request", "attempts", "seconds", "node", "reason")


@dataclass(frozen=True)
class Clip:
    """digest: of everything that makes the result what it is. state: waiting while its request is under way.

    file: its name in the folder. request: the id of the last one; attempts: how many were made for this digest.
    seconds and node: of the one that made it. reason: why the last one failed.
    """

    name: str
    digest: str
    state: Literal["waiting", "done", "failed"]
    file: str | None = None
    request: str = ""
    attempts: int = 0
    seconds: float | None = None
    node: str | None = None
    reason: str | None = None


CLIP = TypeAdapter(Clip)


class LedgerInUse(RuntimeError):
    """Another process renders into this folder."""


class Ledger:
    """The file in a folder, locked for others until it is closed. A context manager.

    Errors of opening it: LedgerInUse; ValueError for a file that is damaged, or of another version or program.
    """

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(
            folder / FILE_NAME, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN EXCLUSIVE")  # the lock stays after the transaction
            [version] = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise ValueError(f"it is of version {version}, and this one knows {VERSION}")
            if version == 0:
                self._db.execute(SCHEMA)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._db.execute("COMMIT")
            self.clips()
        except (sqlite3.DatabaseError, ValueError) as error:
            self._db.close()
            if "locked" in str(error):
                raise LedgerInUse("Another render is working on it.") from None
            raise ValueError(
                f"{FILE_NAME}: {error}. If it is damaged, rename it: every clip is rendered anew."
            ) from None

    def clips(self) -> dict[str, Clip]:
        """By name; without those that are damaged, which are then rendered anew."""
        rows = self._db.execute(f"SELECT {', '.join(COLUMNS)} FROM clips")
        return {clip.name: clip for clip in map(read, rows) if clip}

    def put(self, clip: Clip) -> None:
        """Stores the clip, in the place of one with its name."""
        marks = ", ".join(f":{name}" for name in COLUMNS)
        self._db.execute(f"INSERT OR REPLACE INTO clips VALUES ({marks})", vars(clip))

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()


def read(row: tuple[Any, ...]) -> Clip | None:
    try:
        return CLIP.validate_python(dict(zip(COLUMNS, row, strict=True)))
    except ValidationError:
        return None
