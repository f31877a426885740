"""Brings the clips of a folder to their end: each is a request to the endpoints in this process, made once, whatever ends it.

A row of the ledger names the request before it is made. So a driver that was killed asks for the same one again, and
gets what is waiting, running or ended of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..endpoints.protocol.failure import Failure, Refused
from ..endpoints.requests.jobs import Job, NewJob
from ..endpoints.requests.lanes import Lanes
from ..endpoints.requests.store import keep_trying
from .ledger import FILE_NAME, Clip, Ledger
from .manifest import Item
from .progress import Display, Progress

Answer = TypeVar("Answer")
ADDRESS = "http://render"  # of nobody: what lies here is named below it
AHEAD = 4  # requests in the queue for each worker, and some more
SHOW_SECONDS = 0.5
LOST = Failure(500, "The request's result is no longer there.")


@dataclass(frozen=True)
class Work:
    """clip: what the ledger has of the item, for this digest."""

    item: Item
    clip: Clip


def plan(
    items: list[Item], digests: list[str], known: dict[str, Clip], folder: Path
) -> tuple[list[Work], list[Clip]]:
    """What is to be done, and what is there already. A row of another digest counts for nothing."""
    work, there = [], []
    for item, digest in zip(items, digests, strict=True):
        clip = known.get(item.name)
        if clip is None or clip.digest != digest:
            work.append(Work(item, Clip(item.name, digest, "failed")))
        elif clip.state == "done" and clip.file and (folder / clip.file).is_file():
            there.append(clip)
        elif clip.state == "done":  # somebody deleted the file
            work.append(Work(item, replace(clip, state="failed", attempts=0)))
        else:
            work.append(Work(item, clip))
    return work, there


class Driver:
    """attempts: how many requests may be made for one clip, over all runs. node_of: the name of a worker's machine."""

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        lanes: Lanes,
        node_of: Callable[[str], str],
        attempts: int,
        display: Display,
    ) -> None:
        self._folder, self._ledger, self._lanes = folder, ledger, lanes
        self._queue, self._lock = lanes.queue, asyncio.Lock()
        self._node_of, self._most, self._display = node_of, attempts, display
        self._waiting: deque[Work] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.ended: list[Clip] = []

    async def run(self, work: list[Work], progress: Progress) -> None:
        """Makes the clips; those whose requests are under way come first."""
        self._waiting.extend(sorted(work, key=lambda each: each.clip.state != "waiting"))
        await self._cancel_others({each.clip.request for each in work})
        progress.began = time.monotonic()
        try:
            while self._waiting or self._tasks:
                self._start()
                await asyncio.wait(self._tasks, timeout=SHOW_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in self._tasks if task.done()]:
                    self._tasks.discard(task)
                    task.result()
                while len(self.ended) > progress.done + progress.failed:
                    progress.ended(self.ended[progress.done + progress.failed].state == "done")
                progress.running, progress.workers = self._queue.running, len(self._lanes.states())
                self._display.show(progress)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        most = AHEAD * (len(self._lanes.states()) + 2)
        while self._waiting and len(self._tasks) < most:
            self._tasks.add(asyncio.create_task(self._make(self._waiting.popleft())))

    async def _cancel_others(self, ours: set[str]) -> None:
        """Requests of an earlier run that nobody wants any more: their lines were changed or removed."""
        await self._queue.recovered()
        for job in await keep_trying(self._queue.jobs.open_jobs):
            if job.id not in ours:
                await self._queue.cancel(job.id)

    async def _make(self, work: Work) -> None:
        clip = work.clip
        while clip.state == "waiting" or clip.attempts < self._most:
            if clip.state != "waiting":
                clip = replace(clip, state="waiting", request=str(uuid.uuid4()), attempts=clip.attempts + 1)
                await self._put(clip)
            job, failure = await self._request(work.item, clip)
            if job and job.result and not failure:
                clip, failure = await self._take(clip, job, job.result["filename"])
            if not failure:
                break
            clip = replace(clip, state="failed", reason=failure.message)
            await self._put(clip)
            if failure.status < 500:  # the input's fault: it would fail again
                break
        self._display.ended(clip)
        self.ended.append(clip)

    async def _request(self, item: Item, clip: Clip) -> tuple[Job | None, Failure | None]:
        """The ended request, or why there is none."""
        job = await keep_trying(lambda: self._queue.jobs.get(clip.request))
        lent = None
        if job is None:
            if video := item.video:
                try:
                    lent = await self._retry(lambda: self._lend(video))
                except FileNotFoundError:
                    return None, Failure(422, f"{video.name} is no longer there.")
            given = item.input | ({"video_url": ADDRESS + lent} if lent else {})
            new = NewJob(clip.request, item.endpoint, clip.digest, json.dumps(given), "queue", ADDRESS, False)
            try:
                await keep_trying(lambda: self._queue.accept(new))
            except Refused as error:
                return None, error.failure
        if request := self._queue.find(clip.request):
            await request.ended.wait()
        if lent and (kept := self._queue.preparation.uploads.find(lent)):
            await asyncio.to_thread(shutil.rmtree, kept.parent, ignore_errors=True)
        job = await keep_trying(lambda: self._queue.jobs.get(clip.request))
        return job, LOST if job is None else job.failure

    def _lend(self, video: Path) -> str:
        """Where the endpoints find a video: the path that it would have, had it been uploaded. Errors: OSError."""
        uploads = self._queue.preparation.uploads
        path = uploads.new(video.name)
        _, _, _, _, token, name = path.split("/")
        place(video.resolve(), uploads.folder / token / name)
        return path

    async def _take(self, clip: Clip, job: Job, name: str) -> tuple[Clip, Failure | None]:
        """Gives the file its name in the folder; the request's own goes only when that is noted."""
        source = self._queue.preparation.results.path(job.id, name)
        if not source.is_file():
            return clip, LOST
        file = f"{clip.name}{source.suffix}"
        await self._retry(lambda: place(source, self._folder / file, like=self._folder / FILE_NAME))
        node = self._node_of(job.worker or "")
        clip = replace(clip, state="done", file=file, seconds=job.seconds, node=node, reason=None)
        await self._put(clip)
        shutil.rmtree(source.parent, ignore_errors=True)
        return clip, None

    async def _put(self, clip: Clip) -> None:
        async with self._lock:
            await self._retry(lambda: self._ledger.put(clip))

    async def _retry(self, work: Callable[[], Answer]) -> Answer:
        """A full disk, or one that is away, is waited for: the night is not over."""
        said = ""
        while True:
            try:
                return await asyncio.to_thread(work)
            except (OSError, sqlite3.OperationalError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                if str(error) != said:
                    said = str(error)
                    self._display.say(f"Can't write now, will try again: {said}", "waiting", reason=said)
                await asyncio.sleep(2.0)


def place(source: Path, target: Path, like: Path | None = None) -> None:
    """The file under a second name, whole or not at all; without a copy where the disk allows it. like: a file whose
    permissions it gets."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
        with part.open("rb+") as copy:
            os.fsync(copy.fileno())
    if like:
        shutil.copymode(like, part)
    part.replace(target)
    part.unlink(missing_ok=True)  # renaming a file to another name of the same file does nothing
