"""The accepted requests: each stays in the database until it has ended, exactly once, whatever ends the process."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pydantic import Json, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .failure import DAMAGED, Failure
from .store import Store


class Result(TypedDict):
    """The written video: where the ComfyUI at the URL `worker` has it, what it is, and the seed it was made from."""

    filename: str
    subfolder: str
    type: str
    content_type: str
    file_size: int
    worker: str
    seed: int


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

    state: `sent` if it may have begun on the ComfyUI at the URL `worker`, which may also hold it while it is `waiting`.
    attempts: how often it may have begun. seconds: how long it ran. created, ended, deadline, hook_due: unix times.
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
    state: Literal["waiting", "sent", "ended"]
    worker: str | None
    attempts: int
    seconds: float | None
    ended: float | None
    result: Json[Result] | None
    failure: Json[Failure] | None
    logs: Json[list[dict[str, str]]] | None
    hook_attempts: int
    hook_due: float | None


JOB = TypeAdapter(Job)
SELECT = f"SELECT {', '.join(field.name for field in fields(Job))} FROM requests"
END_DAMAGED = """UPDATE requests SET state = 'ended', ended = ?, failure = ?, result = NULL, logs = NULL, request = NULL,
    seconds = NULL, hook_due = CASE WHEN state = 'ended' THEN hook_due WHEN webhook IS NULL THEN NULL ELSE 0 END
    WHERE seq = ?"""


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

    async def open_jobs(self) -> list[Job]:
        """All that have not ended: those that a restart has to continue."""
        jobs = await self.transaction(lambda db: read(db, "WHERE state != 'ended' ORDER BY low, seq"))
        return [job for job in jobs if job.state != "ended"]

    async def send(self, request_id: str, worker: str) -> None:
        """Called before a ComfyUI gets the request, so that a restart knows which one to ask about it."""
        await self._set(
            "state = 'sent', worker = ?, attempts = attempts + 1 WHERE id = ?", worker, request_id
        )

    async def waits_there(self, request_id: str) -> None:
        """It is behind others in the ComfyUI's own queue; if that ComfyUI dies now, something else was the cause."""
        await self._set(
            "state = 'waiting', attempts = attempts - 1 WHERE id = ? AND state = 'sent'", request_id
        )

    async def begins_there(self, request_id: str) -> None:
        await self._set(
            "state = 'sent', attempts = attempts + 1 WHERE id = ? AND state = 'waiting'", request_id
        )

    async def end(
        self,
        request_id: str,
        result: Result | None,
        failure: Failure | None,
        logs: list[dict[str, str]],
        seconds: float | None,
    ) -> bool:
        """Ends a request; False if it had already ended, which then stands."""
        changed = await self._set(
            """state = 'ended', ended = ?, result = ?, failure = ?, logs = ?, seconds = ?, request = NULL,
            hook_due = CASE WHEN webhook IS NULL THEN NULL ELSE 0 END WHERE id = ? AND state != 'ended'""",
            time.time(),
            json.dumps(result) if result else None,
            json.dumps(asdict(failure)) if failure else None,
            json.dumps(logs),
            *(seconds, request_id),
        )
        return changed == 1

    async def undelivered(self) -> list[str]:
        """The ids of ended requests whose webhooks have not been delivered yet."""
        statement = "SELECT id FROM requests WHERE hook_due IS NOT NULL ORDER BY hook_due"
        return await self.transaction(lambda db: [str(row["id"]) for row in db.execute(statement)])

    async def webhook_tried(self, request_id: str, next_due: float | None) -> None:
        """next_due: when to try again; None if it was delivered or given up."""
        await self._set("hook_attempts = hook_attempts + 1, hook_due = ? WHERE id = ?", next_due, request_id)

    async def expire(self, before: float) -> int:
        """Deletes requests that ended before a time, unless a webhook is still due; returns how many."""
        statement = "DELETE FROM requests WHERE state = 'ended' AND ended < ? AND hook_due IS NULL"
        return await self.transaction(lambda db: db.execute(statement, [before]).rowcount)

    async def clock_was_set(self, seconds: float) -> None:
        """Moves the stored times by as much as the clock was moved."""
        moved = "ended = ended + ?, deadline = deadline + ?, hook_due = hook_due + ?"
        await self._set(moved, seconds, seconds, seconds)

    async def _set(self, what: str, *values: Any) -> int:
        return await self.transaction(lambda db: db.execute(f"UPDATE requests SET {what}", values).rowcount)


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
