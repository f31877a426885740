"""The requests' file: an older one is brought up to date, and a damaged one is put aside."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fast_animatediff.endpoints.protocol.answers import Video
from fast_animatediff.endpoints.protocol.failure import CANCELLED
from fast_animatediff.endpoints.requests.jobs import Job, Jobs, NewJob
from fast_animatediff.endpoints.requests.store import SCHEMA, VERSION, StoreUnavailable, columns

# As the first version of this pack made it, without a number.
VERSION_0 = """
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL, digest TEXT NOT NULL,
    request TEXT, face TEXT NOT NULL, low INTEGER NOT NULL, address TEXT NOT NULL, viewed INTEGER NOT NULL,
    webhook TEXT, deadline REAL, created REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', worker TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, began REAL, ended REAL, result TEXT, failure TEXT, logs TEXT,
    hook_attempts INTEGER NOT NULL DEFAULT 0, hook_due REAL
);
CREATE INDEX open_requests ON requests (seq) WHERE state != 'ended';
CREATE INDEX ended_requests ON requests (ended) WHERE state = 'ended';
CREATE INDEX due_webhooks ON requests (hook_due) WHERE hook_due IS NOT NULL;
INSERT INTO requests (id, endpoint, digest, request, face, low, address, viewed, created)
    VALUES ('waits', 'e', 'd', '{"seed": 1}', 'queue', 1, 'http://us', 1, 10);
INSERT INTO requests (id, endpoint, digest, face, low, address, viewed, created, state, began, ended, result, failure, logs)
    VALUES ('fails', 'e', 'd', 'queue', 0, 'http://us', 1, 10, 'ended', 20, 25, 'null',
    '{"status": 500, "detail": "No.", "error_type": null}', '[]'), ('back', 'e', 'd', 'queue', 0, 'http://us', 1, 10,
    'ended', 30, 25, 'null', '{"status": 500, "detail": "No.", "error_type": null}', '[]');
"""
# As the version before lanes made it: one request that waits, one that was sent, one behind others in a ComfyUI.
VERSION_1 = """
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL, digest TEXT NOT NULL,
    request TEXT, api TEXT NOT NULL, low INTEGER NOT NULL, address TEXT NOT NULL, has_view INTEGER NOT NULL,
    webhook TEXT, deadline REAL, created REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', worker TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, seconds REAL, ended REAL, result TEXT, failure TEXT, logs TEXT,
    hook_attempts INTEGER NOT NULL DEFAULT 0, hook_due REAL
);
CREATE INDEX open_requests ON requests (seq) WHERE state != 'ended';
CREATE INDEX ended_requests ON requests (ended) WHERE state = 'ended';
CREATE INDEX due_webhooks ON requests (hook_due) WHERE hook_due IS NOT NULL;
INSERT INTO requests (id, endpoint, digest, request, api, low, address, has_view, created, state, worker, attempts)
    VALUES ('waits', 'e', 'd', '{"seed": 1}', 'queue', 0, 'http://us', 1, 10, 'waiting', NULL, 0),
    ('sent', 'e', 'd', '{"seed": 1}', 'queue', 0, 'http://us', 1, 10, 'sent', 'http://host', 3),
    ('behind', 'e', 'd', '{"seed": 1}', 'queue', 0, 'http://us', 1, 10, 'waiting', 'http://host', 0);
INSERT INTO requests (id, endpoint, digest, api, low, address, has_view, created, state, worker, seconds, ended, result)
    VALUES ('ended', 'e', 'd', 'queue', 0, 'http://us', 1, 10, 'ended', 'http://host', 2.5, 30, '{"filename": "a.mp4",
    "subfolder": "", "type": "output", "content_type": "video/mp4", "file_size": 9, "worker": "http://host", "seed": 7}');
PRAGMA user_version = 1;
"""
RESULT = Video(
    filename="a.mp4",
    subfolder="",
    type="output",
    content_type="video/mp4",
    file_size=9,
    worker="http://host",
    seed=7,
)


def new(name: str, endpoint: str = "endpoint", **more: object) -> NewJob:
    return NewJob(name, endpoint, "digest", '{"seed": 1}', "queue", "http://us", True, **more)


def with_jobs(path: Path, scenario: Callable[[Jobs], Awaitable[None]]) -> None:
    async def run() -> None:
        jobs = Jobs(path)
        try:
            await scenario(jobs)
        finally:
            await jobs.close()

    asyncio.run(run())


def written(path: Path) -> Path:
    """A database with a few pages of requests, waiting and ended."""

    async def scenario(jobs: Jobs) -> None:
        for number in range(40):
            await jobs.accept(new(str(number), webhook="http://hook" if number % 3 else None))
            if number % 2:
                await jobs.end(str(number), RESULT, None, [{"message": "x" * 300}], 1.0)

    with_jobs(path, scenario)
    return path


def edited(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


async def usable(jobs: Jobs) -> None:
    """Everything that the queue and the webhooks do at a start, and a new request."""
    await jobs.open_jobs()
    for request_id in await jobs.undelivered():
        await jobs.get(request_id)
    job = await jobs.accept(new("new"))
    assert (job.id, job.state) == ("new", "waiting")
    await jobs.end("new", None, CANCELLED, [], None)
    assert (await jobs.get("new")).failure == CANCELLED


def aside(path: Path) -> list[Path]:
    return [each for each in path.parent.glob(f"{path.stem}-aside-*{path.suffix}")]


def test_an_older_file_is_brought_up_to_date_and_its_requests_are_there(tmp_path: Path) -> None:
    path = tmp_path / "requests.sqlite3"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_0)

    async def scenario(jobs: Jobs) -> None:
        [waits] = await jobs.open_jobs()
        assert (waits.id, waits.api, waits.low, waits.has_view) == ("waits", "queue", True, True)
        assert await jobs.request("waits") == {"seed": 1}
        fails, back = await jobs.get("fails"), await jobs.get("back")
        assert (fails.failure.detail, fails.seconds, fails.result) == ("No.", 5.0, None)
        assert back.seconds == 0.0, "the clock had been set back while it ran"

    with_jobs(path, scenario)
    with_jobs(path, usable)
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        assert columns(db) == columns(fresh)
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert aside(path) == []


def test_requests_of_the_version_before_lanes_go_on_where_they_were(tmp_path: Path) -> None:
    path = tmp_path / "requests.sqlite3"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_1)

    async def scenario(jobs: Jobs) -> None:
        waits, sent, behind = await jobs.open_jobs()
        assert (waits.state, waits.worker, waits.leftover) == ("waiting", None, None)
        for job, attempts in ((sent, 3), (behind, 0)):
            assert (job.state, job.attempts, job.attempt, job.lent) == ("sent", attempts, 1, None)
            assert (job.prompt_id, job.output) == (job.id, job.id), "as its ComfyUI knows it"
        await jobs.change(sent, sent.leftover, state="sent", worker="http://other", attempt=2)
        assert await jobs.leftovers() == [sent.leftover]
        assert (await jobs.get("ended")).result == RESULT

    with_jobs(path, scenario)
    with_jobs(path, usable)
    assert aside(path) == []


def test_many_at_once_are_stored_each_by_itself_where_one_fails(tmp_path: Path) -> None:
    async def scenario(jobs: Jobs) -> None:
        await jobs.accept(new("first"))
        jobs._connection.execute("PRAGMA max_page_count = 40")  # SQLite's own way to have little room
        large = replace(new("large"), request="x" * 1_000_000)
        several = [large, *(new(str(number)) for number in range(5))]
        stored = await asyncio.gather(*map(jobs.accept, several), return_exceptions=True)
        assert isinstance(stored[0], StoreUnavailable)
        assert [job.id for job in stored[1:]] == list("01234")
        assert len(await jobs.open_jobs()) == 6

    with_jobs(tmp_path / "requests.sqlite3", scenario)


@pytest.mark.parametrize(
    "damage", ["text", "header", "half", "hundred bytes", "folder", "column", "table", "newer"]
)
def test_a_file_that_cannot_be_used_is_put_aside_whole_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = written(tmp_path / "requests.sqlite3")
    data = path.read_bytes()
    if damage in ("text", "header", "half", "hundred bytes"):
        path.write_bytes(
            {
                "text": b"Dear diary, " * 400,
                "header": bytes(100) + data[100:],
                "half": data[: len(data) // 2],
                "hundred bytes": data[:100],
            }[damage]
        )
    elif damage == "folder":
        path.unlink()
        path.mkdir()
        (path / "kept.txt").write_text("kept")
    elif damage == "newer":
        edited(path, f"PRAGMA user_version = {VERSION + 1}")
    elif damage == "table":
        edited(path, "ALTER TABLE requests RENAME TO others")
        edited(path, "CREATE TABLE requests (id TEXT)")
    else:
        edited(path, "ALTER TABLE requests DROP COLUMN logs")
    before = path.read_bytes() if path.is_file() else None
    with caplog.at_level(logging.WARNING):
        with_jobs(path, usable)
        with_jobs(path, usable_again)
    [kept] = aside(path)
    if before is None:
        assert (kept / "kept.txt").read_text() == "kept"
    elif damage in ("column", "table", "newer"):
        with closing(sqlite3.connect(kept)) as db:
            table = "others" if damage == "table" else "requests"
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (40,)
    elif damage != "half":  # which SQLite had begun to repair
        assert kept.read_bytes() == before
    assert len(caplog.records) == 1
    assert kept.name in caplog.text and path.name in caplog.text and str(tmp_path) not in caplog.messages[0]


async def usable_again(jobs: Jobs) -> None:
    assert (await jobs.get("new")).failure == CANCELLED


@given(st.integers(0, 2**32), st.integers(1, 400))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_bits_flip_new_requests_are_taken(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flips: int
) -> None:
    path = written_once(tmp_path_factory)
    data, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(flips):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    damaged = tmp_path_factory.mktemp("flipped") / "requests.sqlite3"
    damaged.write_bytes(data)
    with_jobs(damaged, usable)


def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.getbasetemp() / "written.sqlite3"
    return path if path.exists() else written(path)


def test_a_file_that_has_lost_its_notes_keeps_its_requests(tmp_path: Path) -> None:
    path = written(tmp_path / "requests.sqlite3")
    edited(path, "DROP TABLE leftovers")

    async def scenario(jobs: Jobs) -> None:
        assert await jobs.leftovers() == [] and await jobs.open_jobs() != []

    with_jobs(path, scenario)
    assert aside(path) == []


def test_a_known_result_is_read_back_as_it_was(tmp_path: Path) -> None:
    async def scenario(jobs: Jobs) -> None:
        await jobs.accept(new("a"))
        logs = [{"message": "Sampling", "level": "INFO"}]
        await jobs.end("a", RESULT, None, logs, 2.5)
        job: Job = await jobs.get("a")
        assert (job.result, job.failure, job.logs, job.seconds) == (RESULT, None, logs, 2.5)
        assert json.loads(json.dumps(job.result)) == RESULT

    with_jobs(tmp_path / "requests.sqlite3", scenario)
