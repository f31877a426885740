"""Rows that are damaged in a file that is whole: each ends by itself, and its client and its webhook hear of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fast_animatediff.endpoints.protocol.failure import DAMAGED
from fast_animatediff.endpoints.requests.jobs import Jobs
from fast_animatediff.tests.endpoints.requests.test_store import (
    RESULT,
    aside,
    edited,
    new,
    with_jobs,
    written,
)


@pytest.mark.parametrize("column", ["logs", "result", "failure"])
@pytest.mark.parametrize("text", ["{", "7", '{"a": 1}', "[7]", "\x00"])
def test_a_damaged_row_ends_by_itself_and_the_others_go_on(tmp_path: Path, column: str, text: str) -> None:
    path = tmp_path / "requests.sqlite3"

    async def write(jobs: Jobs) -> None:
        for name in ("first", "waits", "ended", "last"):
            await jobs.accept(new(name, webhook="http://hook"))
        await jobs.end("ended", RESULT, None, [], None)

    async def read(jobs: Jobs) -> None:
        assert [job.id for job in await jobs.open_jobs()] == ["first", "last"]
        for name in ("waits", "ended"):
            job = await jobs.get(name)
            assert (job.state, job.failure, job.result) == ("ended", DAMAGED, None)
        assert sorted(await jobs.undelivered()) == ["ended", "waits"]
        assert (await jobs.accept(new("waits"))).state == "ended"

    with_jobs(path, write)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE requests SET {column} = ? WHERE id IN ('waits', 'ended')", [text])
    with_jobs(path, read)
    assert aside(path) == []


@pytest.mark.parametrize(
    "damage",
    [
        *(f"{column} = 'x'" for column in ("low", "has_view", "deadline", "created", "attempt", "attempts")),
        *(f"{column} = 'x'" for column in ("seconds", "ended", "hook_attempts", "hook_due", "state")),
        "worker = x'ff'",
        "state = 'ended'",
    ],
)
def test_of_a_row_with_any_damaged_value_its_client_and_its_webhook_hear(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "requests.sqlite3"

    async def write(jobs: Jobs) -> None:
        await jobs.accept(new("a", webhook="http://hook"))

    async def read(jobs: Jobs) -> None:
        assert await jobs.open_jobs() == []
        job = await jobs.get("a")
        assert (job.state, job.failure, job.result) == ("ended", DAMAGED, None)
        assert (await jobs.undelivered() == ["a"]) == (damage != "state = 'ended'")

    with_jobs(path, write)
    edited(path, f"UPDATE requests SET {damage}")
    with_jobs(path, read)


def test_a_row_beyond_repair_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path / "requests.sqlite3")
    edited(path, "UPDATE requests SET endpoint = x'ff' WHERE id = '4'")

    async def scenario(jobs: Jobs) -> None:
        assert "4" not in [job.id for job in await jobs.open_jobs()]
        assert await jobs.get("4") is None
        assert (await jobs.accept(new("4"))).state == "waiting"

    with_jobs(path, scenario)
