"""The requests that were accepted, in SQLite: each is there until it has ended, once, whatever ends the process.

The standard library's sqlite3, in a thread: a dozen statements on one table need no mapper, and a transaction is in
plain sight here. The host's SQLAlchemy database is the host's, may be in memory, and changes with it.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from .failure import Failure

Answer = TypeVar("Answer")
BUSY_SECONDS = 5.0
JOURNAL_BYTES = 16 << 20  # of the write-ahead log that stay after large requests
# seq keeps the order; request is dropped at the end (a data URI may be large) and digest stays.
TABLE = """
CREATE TABLE IF NOT EXISTS requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL, digest TEXT NOT NULL,
    request TEXT, api TEXT NOT NULL, low INTEGER NOT NULL, address TEXT NOT NULL, has_view INTEGER NOT NULL,
    webhook TEXT, deadline REAL, created REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', worker TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, began REAL, ended REAL, result TEXT, failure TEXT, logs TEXT,
    hook_attempts INTEGER NOT NULL DEFAULT 0, hook_due REAL
);
CREATE INDEX IF NOT EXISTS open_requests ON requests (seq) WHERE state != 'ended';
CREATE INDEX IF NOT EXISTS ended_requests ON requests (ended) WHERE state = 'ended';
CREATE INDEX IF NOT EXISTS due_webhooks ON requests (hook_due) WHERE hook_due IS NOT NULL;
"""
SELECT = """SELECT seq, id, endpoint, digest, api, low, address, has_view, webhook, deadline, created, state, worker,
    attempts, began, ended, result, failure, logs, hook_attempts, hook_due FROM requests"""


class StoreUnavailable(RuntimeError):
    """The database can't be used now: locked by another process, or its disk is full."""


@dataclass(frozen=True)
class NewJob:
    """A request as accepted. request: its input as JSON. address: where the client reached us; has_view: the host's /view can be reached there, too.
    deadline: unix time until which it has to have begun. low: waits for all that are not.
    api: run where nobody but the connection can ask for the result, so that it ends with it; else queue."""

    id: str
    endpoint: str
    digest: str
    request: str
    api: str
    address: str
    has_view: bool
    low: bool = False
    webhook: str | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Job:
    """A row without its request, which may be large. result: what the ComfyUI made, {filename, subfolder, type, ...}.
    Times are unix seconds."""

    seq: int
    id: str
    endpoint: str
    digest: str
    api: str
    low: bool
    address: str
    has_view: bool
    webhook: str | None
    deadline: float | None
    created: float
    state: str
    worker: str | None
    attempts: int
    began: float | None
    ended: float | None
    result: dict[str, Any] | None
    failure: Failure | None
    logs: list[dict[str, str]] | None
    hook_attempts: int
    hook_due: float | None

    @property
    def seconds(self) -> float | None:
        return self.ended - self.began if self.began and self.ended else None


def read_row(row: sqlite3.Row) -> Job:
    values = dict(row)
    for name in ("result", "failure", "logs"):
        values[name] = json.loads(values[name]) if values[name] else None
    values["failure"] = Failure(**values["failure"]) if values["failure"] else None
    return Job(**values | {name: bool(values[name]) for name in ("low", "has_view")})


class Jobs:
    """The table. Every method is one transaction and done when it returns; all raise StoreUnavailable.

    The connection holds SQLite's exclusive lock, so two ComfyUIs with one user folder can't both run a request; the
    system lets go of it however the process ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="endpoints-requests")

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def accept(self, new: NewJob) -> Job:
        """Stores a request; where its id is known, returns what is there, unchanged."""

        def insert(db: sqlite3.Connection) -> Job:
            values = asdict(new) | {"created": time.time()}
            names, marks = ", ".join(values), ", ".join("?" * len(values))
            statement = f"INSERT INTO requests ({names}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"
            db.execute(statement, list(values.values()))
            return read_row(db.execute(f"{SELECT} WHERE id = ?", [new.id]).fetchone())

        return await self._transaction(insert)

    async def get(self, request_id: str) -> Job | None:
        def select(db: sqlite3.Connection) -> Job | None:
            row = db.execute(f"{SELECT} WHERE id = ?", [request_id]).fetchone()
            return read_row(row) if row else None

        return await self._transaction(select)

    async def request(self, request_id: str) -> dict[str, Any]:
        """The input of a request that has not ended."""
        statement = "SELECT request FROM requests WHERE id = ?"
        text = await self._transaction(lambda db: db.execute(statement, [request_id]).fetchone()[0])
        return await asyncio.to_thread(json.loads, text)

    async def open_jobs(self) -> list[Job]:
        """All that have not ended: what a restart has to go on with."""
        statement = f"{SELECT} WHERE state != 'ended' ORDER BY low, seq"
        return await self._transaction(lambda db: [read_row(row) for row in db.execute(statement)])

    async def send(self, request_id: str, worker: str) -> None:
        """To be called before a ComfyUI gets the request, so that a restart knows whom to ask about it."""
        statement = "UPDATE requests SET state = 'sent', worker = ?, attempts = attempts + 1 WHERE id = ?"
        await self._transaction(lambda db: db.execute(statement, [worker, request_id]))

    async def end(
        self,
        request_id: str,
        result: dict[str, Any] | None,
        failure: Failure | None,
        logs: list[dict[str, str]],
        began: float | None,
    ) -> bool:
        """Ends a request; False where it had ended before, which then stands."""
        statement = """UPDATE requests SET state = 'ended', ended = ?, result = ?, failure = ?, logs = ?, began = ?,
            request = NULL, hook_due = CASE WHEN webhook IS NULL THEN NULL ELSE 0 END WHERE id = ? AND state != 'ended'"""
        values = [
            json.dumps(result),
            json.dumps(asdict(failure)) if failure else None,
            json.dumps(logs),
            began,
        ]
        return await self._transaction(
            lambda db: db.execute(statement, [time.time(), *values, request_id]).rowcount == 1
        )

    async def due_webhooks(self, now: float, most: int) -> list[Job]:
        statement = f"{SELECT} WHERE hook_due <= ? ORDER BY hook_due LIMIT ?"
        return await self._transaction(
            lambda db: [read_row(row) for row in db.execute(statement, [now, most])]
        )

    async def webhook_tried(self, request_id: str, next_due: float | None) -> None:
        """next_due: when to try again; None when it was delivered or is given up."""
        statement = "UPDATE requests SET hook_attempts = hook_attempts + 1, hook_due = ? WHERE id = ?"
        await self._transaction(lambda db: db.execute(statement, [next_due, request_id]))

    async def expire(self, before: float) -> int:
        """Deletes what ended before a time, unless a webhook is still due; returns how many."""
        statement = "DELETE FROM requests WHERE state = 'ended' AND ended < ? AND hook_due IS NULL"
        return await self._transaction(lambda db: db.execute(statement, [before]).rowcount)

    async def _transaction(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        def transact() -> Answer:
            with self._connection or self._open() as db:
                return work(db)

        return await self._run(transact)

    async def _run(self, work: Callable[[], Answer]) -> Answer:
        try:
            # A statement that has begun is waited for: a cancelled caller must not leave it undecided for others.
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
            raise StoreUnavailable(f"{self.path.name}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA auto_vacuum = FULL")
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # what was accepted outlives a power cut, too
            db.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
            db.executescript(TABLE)
        except sqlite3.Error:
            db.close()
            raise
        self._connection = db
        return db

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()
