"""The SQLite file that holds the requests: opened, migrated, and set aside if it is unusable.

The standard library's sqlite3, in a thread: a dozen statements on two tables need no mapper, and transactions stay
visible. The host's own SQLAlchemy database may be in memory and changes with the host.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

Answer = TypeVar("Answer")
Work = Callable[[sqlite3.Connection], Any]
BUSY_SECONDS = 5.0
JOURNAL_BYTES = 16 << 20  # of the write-ahead log that remain after large requests
NOTES = """
CREATE TABLE IF NOT EXISTS leftovers (
    prompt_id TEXT PRIMARY KEY, worker TEXT NOT NULL, output TEXT, lent TEXT, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS sender (name TEXT NOT NULL);
"""
# seq keeps the order. The request is dropped at the end (a data URI may be large); its digest stays.
SCHEMA = """
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL, digest TEXT NOT NULL,
    request TEXT, api TEXT NOT NULL, low INTEGER NOT NULL, address TEXT NOT NULL, has_view INTEGER NOT NULL,
    webhook TEXT, deadline REAL, created REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', worker TEXT,
    attempt INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, lent TEXT, seconds REAL, ended REAL,
    result TEXT, failure TEXT, logs TEXT, hook_attempts INTEGER NOT NULL DEFAULT 0, hook_due REAL
);
CREATE INDEX open_requests ON requests (seq) WHERE state != 'ended';
CREATE INDEX ended_requests ON requests (ended) WHERE state = 'ended';
CREATE INDEX due_webhooks ON requests (hook_due) WHERE hook_due IS NOT NULL;
"""
# Each turns a file of version 0, 1, ... into the next one; the version is SQLite's user_version.
MIGRATIONS = (
    """
    ALTER TABLE requests RENAME COLUMN face TO api;
    ALTER TABLE requests RENAME COLUMN viewed TO has_view;
    ALTER TABLE requests RENAME COLUMN began TO seconds;
    UPDATE requests SET seconds = MAX(0, ended - seconds);
    UPDATE requests SET result = NULL WHERE result = 'null';
    """,
    """
    ALTER TABLE requests ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE requests ADD COLUMN lent TEXT;
    UPDATE requests SET state = 'sent', attempt = 1 WHERE worker IS NOT NULL AND state != 'ended';
    """,
)
VERSION = len(MIGRATIONS)
UNFIT = re.compile("no such|unsupported file format")  # in errors of the class that a lock or a full disk has


class StoreUnavailable(RuntimeError):
    """The database can't be used at the moment: another process has locked it, or the disk is full."""


class Unreadable(sqlite3.DatabaseError):
    """The file is not a database of this pack, though SQLite may find nothing wrong with it."""


class Store:
    """A database file. A transaction is on disk when it returns; all raise StoreUnavailable.

    The connection holds SQLite's exclusive lock, so two processes with one database can't both run a request. The
    system releases it however the process ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="endpoints-requests")
        self._asked: deque[tuple[Work, Future[Any]]] = deque()

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def transaction(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """The work's answer. Those asked for meanwhile share one commit, because each has to wait for the disk."""
        answer: Future[Answer] = Future()
        self._asked.append((work, answer))
        self._thread.submit(self._transact)
        try:
            # Shielded: a transaction that has begun is completed even if its caller is cancelled.
            return await asyncio.shield(asyncio.wrap_future(answer))
        except (sqlite3.DatabaseError, OSError) as error:
            raise StoreUnavailable(f"{self.path.name}: {error}") from error

    def _transact(self) -> None:
        self._settle([self._asked.popleft() for _ in range(len(self._asked))])

    def _settle(self, batch: Sequence[tuple[Work, Future[Any]]]) -> None:
        """Answers all with one commit; after an error each by itself, so that only the one at fault fails."""
        try:
            answers = self._commit([work for work, _ in batch])
        except Exception as error:
            is_shared = len(batch) == 1 or "locked" in str(error)
            for each in batch:
                each[1].set_exception(error) if is_shared else self._settle([each])
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                future.set_result(answer)

    def _commit(self, works: Sequence[Work]) -> list[Any]:
        try:
            with self._connection or self._open() as db:
                return [work(db) for work in works]
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
            self._put_aside(error)
        with self._open() as db:
            return [work(db) for work in works]

    def _open(self) -> sqlite3.Connection:
        if self.path.is_dir():
            raise Unreadable("it is a folder")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
            db.row_factory = sqlite3.Row
            db.text_factory = lambda text: text.decode("utf-8", "replace")
            db.execute("PRAGMA auto_vacuum = FULL")
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # what was accepted survives a power cut
            db.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
            [[found]] = db.execute("PRAGMA quick_check(1)")  # before a request has to end
            if found != "ok":
                raise Unreadable(found)
            migrate(db)
        except Exception:
            db.close()
            raise
        self._connection = db
        return db

    def _put_aside(self, error: Exception) -> None:
        """Renames the file and those that belong to it, so that a new one is begun."""
        self._close()
        aside = self.path.with_name(
            f"{self.path.stem}-aside-{datetime.now():%Y%m%d-%H%M%S-%f}{self.path.suffix}"
        )
        for end in ("-wal", "-shm", "-journal", ""):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{end}").rename(f"{aside}{end}")
        logging.error(
            "Fast AnimateDiff endpoints: %s is unusable: %s. It was renamed to %s, and a new database was begun. "
            "Requests that were waiting in the old one will not run; its videos are deleted as they expire.",
            *(self.path.name, str(error).partition("\n")[0], aside.name),
        )

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()


def is_damage(error: Exception) -> bool:
    """Whether the file itself is at fault. A lock, a full disk and the like are OperationalErrors; a UnicodeDecodeError
    comes from a message of SQLite that quotes the file."""
    certain = (sqlite3.DatabaseError, Unreadable, UnicodeDecodeError)
    return type(error) in certain or bool(UNFIT.search(str(error)))


def migrate(db: sqlite3.Connection) -> None:
    """Creates the tables, or migrates older ones, in one transaction. Errors: Unreadable."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise Unreadable(f"its version is {version}, and this pack knows versions up to {VERSION}")
    steps = MIGRATIONS[version:] if columns(db) else [SCHEMA]
    db.executescript(f"BEGIN IMMEDIATE; {''.join(steps)} {NOTES} PRAGMA user_version = {VERSION}; COMMIT")
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        if missing := columns(fresh) - columns(db):
            raise Unreadable(f"its table lacks {', '.join(sorted(missing))}")


def columns(db: sqlite3.Connection) -> set[str]:
    return {row[1] for row in db.execute("PRAGMA table_info(requests)")}


async def keep_trying(store: Callable[[], Awaitable[Answer]]) -> Answer:
    """Retries until it works: a full disk or a locked database must not lose an accepted request."""
    pause, said = 0.1, ""
    while True:
        try:
            return await store()
        except StoreUnavailable as error:
            if str(error) != said:
                said = str(error)
                logging.warning("Fast AnimateDiff endpoints: can't use the database yet: %s", said)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)
