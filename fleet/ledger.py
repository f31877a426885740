"""What has been rendered into a folder: one row for each name, in a SQLite file beside the results."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

FILE_NAME = "render.sqlite3"
VERSION = 1
SCHEMA = """CREATE TABLE clips (name TEXT PRIMARY KEY, digest TEXT NOT NULL, state TEXT NOT NULL, file TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, seconds REAL, node TEXT, reason TEXT) WITHOUT ROWID"""


@dataclass(frozen=True)
class Clip:
    """digest: of everything that makes the result what it is. state: waiting if its request may have been made already.

    file: its name in the folder. attempts: requests that were made for this digest. seconds and node: of the one that
    made it. reason: why the last one failed.
    """

    name: str
    digest: str
    state: Literal["waiting", "done", "failed"]
    file: str | None = None
    attempts: int = 0
    seconds: float | None = None
    node: str | None = None
    reason: str | None = None


class LedgerInUse(RuntimeError):
    """Another process renders into this folder."""


class Ledger:
    """The file in a folder, locked for others until it is closed. A context manager.

    Errors of opening it: LedgerInUse; ValueError for a file of another version or another program.
    """

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / FILE_NAME, timeout=0, isolation_level=None)
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN EXCLUSIVE")  # the lock stays after the transaction
            [version] = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise ValueError(f"{FILE_NAME} in it is of version {version}; this one knows {VERSION}.")
            if version == 0:
                self._db.execute(SCHEMA)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error):
                raise LedgerInUse("Another render is working on it.") from None
            raise
        except (sqlite3.DatabaseError, ValueError) as error:
            self._db.close()
            raise ValueError(f"{FILE_NAME}: {error}") from None

    def clips(self) -> dict[str, Clip]:
        rows = self._db.execute("SELECT name, digest, state, file, attempts, seconds, node, reason FROM clips")
        return {row[0]: Clip(*row) for row in rows}

    def put(self, clips: Iterable[Clip]) -> None:
        """Stores the clips, in the place of those with their names."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany(
                "INSERT OR REPLACE INTO clips (name, digest, state, file, attempts, seconds, node, reason)"
                " VALUES (:name, :digest, :state, :file, :attempts, :seconds, :node, :reason)",
                [vars(clip) for clip in clips],
            )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
