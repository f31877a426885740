"""The accepted requests: each stays in the database until it has ended, exactly once, whatever ends the process."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple

from pydantic import Json, TypeAdapter, ValidationError

from ..protocol.answers import Line, Video
from ..protocol.failure import DAMAGED, Failure
from ..protocol.schemas import ENDPOINTS
from .store import Store


class Leftover(NamedTuple):
    """What a ComfyUI may still have of an attempt that is over: its prompt, the file with `output` in its name, unless that
    is the result, and the video lent to it."""

    worker: str
    prompt_id: str
    output: str | None
    lent: str | None


@dataclass(frozen=True)
class NewJob:
    """A request as accepted.

    request: its input as JSON. api: `run` if only the open connection can get the result, so that the request ends with
    it, else `queue`. address: where the client reached us; has_view: the host's /view is at that address, too.
    low: it waits for all that are not. deadline: unix time by which it must have begun.
    """

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
    """A row without its request, which may be large.

    state: `preparing` while its video is fetched, or carried to a ComfyUI; `sent` once it may have begun there; `running`
    once it has. worker: URL of the ComfyUI that had it last. attempt: how often it was given to one; attempts: how often
    it may have begun there. lent: its video there. seconds: how long it ran. created, ended, deadline, hook_due: unix times.
    """

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
    state: Literal["waiting", "preparing", "sent", "running", "ended"]
    worker: str | None
    attempt: int
    attempts: int
    lent: str | None
    seconds: float | None
    ended: float | None
    result: Json[Video] | None
    failure: Json[Failure] | None
    logs: Json[list[Line]] | None
    hook_attempts: int
    hook_due: float | None

    def __post_init__(self) -> None:
        if self.state == "ended" and self.result is None and self.failure is None:
            raise ValueError("it has ended with neither a result nor a failure")

    @property
    def takes_video(self) -> bool:
        return self.endpoint in ENDPOINTS and ENDPOINTS[self.endpoint].takes_video

    @property
    def prompt_id(self) -> str:
        """Of the last attempt. Every attempt has its own, so that an answer which comes late is not taken for another."""
        return attempt_id(self.id, self.attempt)

    @property
    def output(self) -> str:
        """What the name of the last attempt's file contains."""
        return output_name(self.id, self.attempt)

    @property
    def leftover(self) -> Leftover | None:
        return Leftover(self.worker, self.prompt_id, self.output, self.lent) if self.worker else None


def attempt_id(request_id: str, attempt: int) -> str:
    return request_id if attempt <= 1 else str(uuid.uuid5(uuid.NAMESPACE_OID, f"{request_id} {attempt}"))


def output_name(request_id: str, attempt: int) -> str:
    return request_id if attempt <= 1 else f"{request_id}-{attempt}"


JOB = TypeAdapter(Job)
SELECT = f"SELECT {', '.join(field.name for field in fields(Job))} FROM requests"
END_DAMAGED = """UPDATE requests SET state = 'ended', ended = ?1, failure = ?2, result = NULL, logs = NULL, request = NULL,
    low = 0, has_view = 0, deadline = NULL, created = ?1, worker = NULL, attempt = 0, attempts = 0, lent = NULL,
    seconds = NULL, hook_attempts = 0, hook_due = CASE WHEN webhook IS NULL OR state = 'ended' AND hook_due IS NULL
    THEN NULL ELSE 0 END WHERE seq = ?3"""
END = """UPDATE requests SET state = 'ended', ended = ?, result = ?, failure = ?, logs = ?, seconds = ?, request = NULL,
    hook_due = CASE WHEN webhook IS NULL THEN NULL ELSE 0 END WHERE id = ? AND state != 'ended'"""


class Jobs(Store):
    """The table. Every method is one transaction; all raise StoreUnavailable."""

    async def accept(self, new: NewJob) -> Job:
        """Stores a request; if its id is known, returns what is stored, unchanged."""
        values = asdict(new) | {"created": time.time()}
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        statement = f"INSERT INTO requests ({names}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"

        def insert(db: sqlite3.Connection) -> list[Job]:
            db.execute(statement, list(values.values()))
            return read(db, "WHERE id = ?", [new.id])

        # Twice if the row that had the id was beyond repair.
        [job] = await self.transaction(lambda db: insert(db) or insert(db))
        return job

    async def get(self, request_id: str) -> Job | None:
        return await self.transaction(lambda db: next(iter(read(db, "WHERE id = ?", [request_id])), None))

    async def request(self, request_id: str) -> dict[str, Any]:
        """The input of a request that has not ended."""
        statement = "SELECT request FROM requests WHERE id = ?"
        text = await self.transaction(lambda db: db.execute(statement, [request_id]).fetchone()[0])
        return await asyncio.to_thread(json.loads, text)

    async def sender(self) -> str:
        """The name under which the requests are sent to ComfyUIs, which tell of them to nobody else: it outlives a restart."""

        def read(db: sqlite3.Connection) -> str:
            statement = "INSERT INTO sender SELECT ? WHERE NOT EXISTS (SELECT * FROM sender)"
            db.execute(statement, [uuid.uuid4().hex])
            return str(db.execute("SELECT name FROM sender").fetchone()[0])

        return await self.transaction(read)

    async def open_jobs(self) -> list[Job]:
        """All that have not ended: those that a restart has to continue."""
        jobs = await self.transaction(lambda db: read(db, "WHERE state != 'ended' ORDER BY low, seq"))
        return [job for job in jobs if job.state != "ended"]

    async def change(self, job: Job, leave: Leftover | None = None, **columns: Any) -> Job:
        """The job with other values. leave: what is noted with it, to be removed from a ComfyUI."""
        names = ", ".join(f"{name} = ?" for name in columns)

        def update(db: sqlite3.Connection) -> None:
            put(db, leave)
            db.execute(
                f"UPDATE requests SET {names} WHERE id = ? AND state != 'ended'", [*columns.values(), job.id]
            )

        await self.transaction(update)
        return replace(job, **columns)

    async def end(
        self,
        request_id: str,
        result: Video | None,
        failure: Failure | None,
        logs: list[Line],
        seconds: float | None,
        leave: Leftover | None = None,
    ) -> bool:
        """Ends a request; False if it had already ended, which then stands."""
        found = [json.dumps(result) if result else None, json.dumps(asdict(failure)) if failure else None]
        values = [time.time(), *found, json.dumps(logs), seconds, request_id]

        def update(db: sqlite3.Connection) -> bool:
            put(db, leave)
            return db.execute(END, values).rowcount == 1

        return await self.transaction(update)

    async def leftovers(self) -> list[Leftover]:
        statement = "SELECT worker, prompt_id, output, lent FROM leftovers"
        return await self.transaction(lambda db: [Leftover(*row) for row in db.execute(statement)])

    async def removed(self, leftover: Leftover) -> None:
        statement = "DELETE FROM leftovers WHERE prompt_id = ?"
        await self.transaction(lambda db: db.execute(statement, [leftover.prompt_id]).rowcount)

    async def undelivered(self) -> list[str]:
        """The ids of ended requests whose webhooks have not been delivered yet."""
        statement = "SELECT id FROM requests WHERE hook_due IS NOT NULL ORDER BY hook_due"
        return await self.transaction(lambda db: [str(row["id"]) for row in db.execute(statement)])

    async def webhook_tried(self, request_id: str, next_due: float | None) -> None:
        """next_due: when to try again; None if it was delivered or given up."""
        statement = "UPDATE requests SET hook_attempts = hook_attempts + 1, hook_due = ? WHERE id = ?"
        await self.transaction(lambda db: db.execute(statement, [next_due, request_id]).rowcount)

    async def delete(self, before: float) -> list[str]:
        """Deletes requests that ended before a time, unless a webhook is still due, and what was noted of others.

        Returns the ids of those requests.
        """

        def delete(db: sqlite3.Connection) -> list[str]:
            old = "state = 'ended' AND ended < ? AND hook_due IS NULL"
            gone = [row["id"] for row in db.execute(f"SELECT id FROM requests WHERE {old}", [before])]
            db.execute(f"DELETE FROM requests WHERE {old}", [before])
            db.execute("DELETE FROM leftovers WHERE created < ?", [before])
            return gone

        return await self.transaction(delete)

    async def unknown(self, request_ids: Sequence[str]) -> list[str]:
        """Those of the ids that no request has."""
        statement = "SELECT 1 FROM requests WHERE id = ?"
        return await self.transaction(
            lambda db: [each for each in request_ids if db.execute(statement, [each]).fetchone() is None]
        )

    async def clock_was_set(self, seconds: float) -> None:
        """Moves the stored times by as much as the clock was moved."""

        def move(db: sqlite3.Connection) -> None:
            db.execute("UPDATE leftovers SET created = created + ?", [seconds])
            moved = "ended = ended + ?1, deadline = deadline + ?1, hook_due = hook_due + ?1"
            db.execute(f"UPDATE requests SET {moved}", [seconds])

        await self.transaction(move)


def put(db: sqlite3.Connection, leftover: Leftover | None) -> None:
    if leftover:
        names = "worker, prompt_id, output, lent, created"
        statement = f"INSERT OR REPLACE INTO leftovers ({names}) VALUES (?, ?, ?, ?, ?)"
        db.execute(statement, [*leftover, time.time()])


def read(db: sqlite3.Connection, where: str, values: Sequence[Any] = ()) -> list[Job]:
    """The rows as jobs. A damaged one ends with a failure, and is deleted if too little of it is left."""
    jobs = []
    for row in db.execute(f"{SELECT} {where}", values).fetchall():
        try:
            jobs.append(JOB.validate_python(dict(row)))
        except ValidationError as error:
            logging.error(
                "Fast AnimateDiff endpoints: request %s is damaged in the database and has ended", row["id"]
            )
            logging.debug("%s", error)
            db.execute(END_DAMAGED, [time.time(), json.dumps(asdict(DAMAGED)), row["seq"]])
            try:
                left = db.execute(f"{SELECT} WHERE seq = ?", [row["seq"]]).fetchone()
                jobs.append(JOB.validate_python(dict(left)))
            except ValidationError:
                db.execute("DELETE FROM requests WHERE seq = ?", [row["seq"]])
    return jobs
