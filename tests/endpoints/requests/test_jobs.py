"""The requests' database by itself: what it has said yes to is there after any end of the process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fast_animatediff.endpoints.protocol.failure import CANCELLED, without_paths
from fast_animatediff.endpoints.requests.expiry import expire
from fast_animatediff.endpoints.requests.jobs import Jobs, NewJob
from fast_animatediff.endpoints.requests.results import Results
from fast_animatediff.endpoints.requests.store import StoreUnavailable
from fast_animatediff.tests.endpoints.requests.test_store import RESULT, new

ROOT = Path(__file__).resolve().parents[3]
ACCEPT_FOR_EVER = """
import asyncio, importlib.util, itertools, sys
from pathlib import Path
root = Path(sys.argv[1])
spec = importlib.util.spec_from_file_location("endpoints", root / "__init__.py", submodule_search_locations=[str(root)])
module = sys.modules["endpoints"] = importlib.util.module_from_spec(spec)
from endpoints.requests.jobs import Jobs, NewJob
async def main():
    jobs = Jobs(Path(sys.argv[2]))
    for number in itertools.count():
        await jobs.accept(NewJob(str(number), "e", "d", "x" * 5000, "queue", "a", True))
        print(number, flush=True)
asyncio.run(main())
"""


def test_what_was_accepted_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "requests.sqlite3"
    command = [sys.executable, "-I", "-c", ACCEPT_FOR_EVER, str(ROOT / "endpoints"), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    told = [process.stdout.readline() for _ in range(200)]
    process.kill()
    told += process.stdout.readlines()
    process.wait()

    async def read() -> list[str]:
        jobs = Jobs(path)
        found = [job.id for job in await jobs.open_jobs()]
        await jobs.close()
        return found

    found = asyncio.run(read())
    assert found[: len(told)] == [line.strip() for line in told if line.endswith("\n")]
    assert len(found) <= len(told) + 1


def test_a_request_ends_once_and_its_input_is_dropped(tmp_path: Path) -> None:
    async def scenario() -> None:
        jobs = Jobs(tmp_path / "requests.sqlite3")
        await jobs.accept(new("a", webhook="http://hook"))
        assert await jobs.end("a", None, CANCELLED, [], None)
        assert not await jobs.end("a", RESULT, None, [], None)
        job = await jobs.accept(new("a"))
        assert (job.state, job.result, job.failure, job.webhook) == ("ended", None, CANCELLED, "http://hook")
        assert await jobs.undelivered() == ["a"]
        await jobs.delete(job.ended + 1)
        assert await jobs.get("a"), "its webhook is still due"
        await jobs.webhook_tried("a", None)
        await jobs.delete(job.ended - 1)
        assert await jobs.get("a"), "it has not expired"
        await jobs.delete(job.ended + 1)
        assert await jobs.get("a") is None
        await jobs.close()

    asyncio.run(scenario())


def test_a_video_expires_with_its_request_though_its_file_is_from_a_clock_that_was_ahead(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        jobs, results, ready = (
            Jobs(tmp_path / "requests.sqlite3"),
            Results(tmp_path / "results", None),
            asyncio.Event(),
        )
        ready.set()
        await jobs.accept(new("old"))
        await jobs.end("old", RESULT, None, [], None)
        folder = results.folder / "old"
        folder.mkdir(parents=True)
        os.utime(folder, (2e9, 2e9))
        with pytest.raises(asyncio.TimeoutError):  # it goes on for ever
            await asyncio.wait_for(expire(jobs, results, -1.0, ready), 1.0)
        assert not folder.exists()
        await jobs.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", ["killed while it expires", "database damaged"])
def test_an_expired_file_is_deleted_whatever_became_of_its_request(tmp_path: Path, lost: str) -> None:
    async def scenario() -> None:
        path, folder, ready = tmp_path / "requests.sqlite3", tmp_path / "results", asyncio.Event()
        jobs, results = Jobs(path), Results(folder, None)
        ready.set()
        for request_id in ("expired", "kept"):
            await jobs.accept(new(request_id))
            (folder / request_id).mkdir(parents=True)
        await jobs.end("expired", RESULT, None, [], None)
        os.utime(folder / "expired", (0, 0))
        if lost == "database damaged":
            await jobs.close()
            path.write_bytes(b"Dear diary, " * 400)
            jobs = Jobs(path)
            await jobs.accept(new("kept"))
        else:

            def killed(request_ids: list[str]) -> None:
                raise KeyError("The process ends here.")

            with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyError):
                patch.setattr(results, "remove", killed)
                await expire(jobs, results, -1.0, ready)
        os.utime(folder / "kept", (0, 0))  # its request has not ended
        (folder / "new").mkdir()
        expiring = asyncio.create_task(expire(jobs, results, 3600.0, ready))
        while (folder / "expired").exists():
            await asyncio.sleep(0.01)
        assert sorted(path.name for path in folder.iterdir()) == ["kept", "new"]
        expiring.cancel()
        await jobs.close()

    asyncio.run(asyncio.wait_for(scenario(), 20.0))


def test_a_full_disk_refuses_what_is_new_and_keeps_what_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        jobs = Jobs(tmp_path / "requests.sqlite3")
        await jobs.accept(new("a"))
        jobs._connection.execute("PRAGMA max_page_count = 1")  # SQLite's own way to have no room
        large = NewJob("b", "e", "d", "x" * 1_000_000, "queue", "a", True)
        with pytest.raises(StoreUnavailable, match="full"):
            await jobs.accept(large)
        assert [job.id for job in await jobs.open_jobs()] == ["a"]
        jobs._connection.execute("PRAGMA max_page_count = 1000000")
        await jobs.accept(large)
        await jobs.close()

    asyncio.run(scenario())


def test_the_file_shrinks_again_after_large_requests(tmp_path: Path) -> None:
    path = tmp_path / "requests.sqlite3"

    async def scenario() -> None:
        jobs = Jobs(path)
        await jobs.accept(NewJob("a", "e", "d", "x" * 50_000_000, "queue", "a", True))
        await jobs.end("a", None, CANCELLED, [], None)
        await jobs.accept(new("b"))
        log = path.with_name(f"{path.name}-wal")
        assert log.stat().st_size <= 16 << 20
        await jobs.close()

    asyncio.run(scenario())
    assert path.stat().st_size < 1_000_000


def test_a_second_process_cannot_take_the_same_database(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = (Jobs(tmp_path / "requests.sqlite3") for _ in range(2))
        await first.accept(new("a"))
        with pytest.raises(StoreUnavailable, match="locked"):
            await second.open_jobs()
        await first.close()
        assert len(await second.open_jobs()) == 1
        await second.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("No space left on device: '/srv/comfy/output/a.mp4'", "No space left on device: 'a.mp4'"),
        (r"can't open C:\Users\me\models\b.safetensors", "can't open b.safetensors"),
        (r"can't open C:\Users\John Doe\ComfyUI\b.safetensors", "can't open b.safetensors"),
        ("no /home/john doe/My ComfyUI/output/a.mp4 there", "no a.mp4 there"),
        ("see https://example.com/a/b.html, step 3/4", "see https://example.com/a/b.html, step 3/4"),
    ],
)
def test_messages_lose_the_servers_folders(said: str, shown: str) -> None:
    assert without_paths(said) == shown
