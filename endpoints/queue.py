"""Requests in their order, each to the ComfyUI with the least to do, until each has ended."""

from __future__ import annotations

import asyncio
import bisect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from .attempt import Live, Preparation, adopt, run
from .comfyui import ComfyUI, ComfyUIGone
from .failure import CLIENT_GONE, MACHINE_LOST, TOO_LATE, Failure, Refused, refuse, wrong_field
from .jobs import Job, Jobs, NewJob, StoreUnavailable

Answer = TypeVar("Answer")
UNEXPECTED = Failure(500, "An unexpected error occurred.", "internal_error")
MOST_ATTEMPTS = 3  # a request that takes its ComfyUI down each time has to end too
TICK_SECONDS = 0.5
EXPIRE_SECONDS = 60.0
READY_SECONDS = 10.0  # that a new request waits for those of an earlier process to be read
SETTLE_SECONDS = 2.0  # after a start, for all ComfyUIs to be heard before the first request goes to one


class Queue:
    """Accepts requests and sees them through. One request at a time per ComfyUI, so that the order is ours.

    most: requests that may wait; more are refused with 429. keep: seconds that ended ones stay readable.
    """

    def __init__(
        self, jobs: Jobs, comfyuis: Sequence[ComfyUI], preparation: Preparation, most: int, keep: float
    ) -> None:
        self.jobs, self.comfyuis, self.most, self.keep = jobs, list(comfyuis), most, keep
        self._preparation = preparation
        self._live: dict[str, Live] = {}
        self._waiting: list[Live] = []
        self._busy: dict[ComfyUI, asyncio.Task[None]] = {}
        self._orphaned_prompts: dict[ComfyUI, set[str]] = {comfyui: set() for comfyui in self.comfyuis}
        self._wake = asyncio.Event()
        self._accepting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = asyncio.Event()

    def start(self) -> None:
        for comfyui in self.comfyuis:
            comfyui.start()
        for loop in (self._dispatch, self._tick, self._expire):
            self.spawn(loop())
        for comfyui in self.comfyuis:
            self.spawn(self._watch(comfyui))

    def spawn(self, loop: Coroutine[None, None, None]) -> None:
        """Runs something else for as long as the queue."""
        task = asyncio.create_task(loop)
        task.add_done_callback(report)
        self._tasks.append(task)

    async def close(self) -> None:
        """Leaves everything as it is; the next start goes on with it."""
        tasks = [*self._tasks, *self._busy.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for comfyui in self.comfyuis:
            await comfyui.close()
        await self.jobs.close()

    # ---- what callers do

    async def recovered(self) -> None:
        """Returns when the requests of an earlier process are in the queue again. Errors: StoreUnavailable."""
        try:
            await asyncio.wait_for(self.ready.wait(), READY_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            raise StoreUnavailable("the requests of an earlier start could not be read yet") from None

    async def accept(self, new: NewJob, most: int | None = None) -> tuple[Job, bool]:
        """The stored request, and whether it is new: the same id again changes nothing.

        Errors: StoreUnavailable; Refused with 429 when too many wait, 422 when the id is known with another input.
        """
        await self.recovered()
        # Shielded: what is stored has to be queued, too, though the caller may be cancelled in between.
        return await asyncio.shield(asyncio.ensure_future(self._accept(new, most)))

    async def _accept(self, new: NewJob, most: int | None) -> tuple[Job, bool]:
        async with self._accepting:  # one after the other, so that no two take the last place
            waiting, most = len(self._waiting), self.most - 1 if most is None else min(most, self.most - 1)
            if waiting > most and await self.jobs.get(new.id) is None:
                raise refuse(429, f"{waiting} requests are already waiting. Try again later.")
            job = await self.jobs.accept(new)
            if (job.endpoint, job.digest) != (new.endpoint, new.digest):
                message = "This request id was used before with another input."
                raise Refused(wrong_field("x-fal-request-id", message, "value_error", at="header"))
            known = job.id in self._live or job.state == "ended"
            if not known:
                self._add(Live(job.seq, job.id, job.low, job.deadline))
            return job, not known

    def live(self, request_id: str) -> Live | None:
        """The request, unless it has ended or is unknown."""
        return self._live.get(request_id)

    def position(self, live: Live) -> int:
        """How many requests have to go to a ComfyUI before it; 0 once it is there."""
        index = bisect.bisect_left(self._waiting, live.place, key=lambda other: other.place)
        return index if live in self._waiting[index : index + 1] else 0

    def named(self, url: str | None) -> ComfyUI | None:
        return next((comfyui for comfyui in self.comfyuis if comfyui.url == url), None)

    async def cancel(self, request_id: str, why: Failure | None = None) -> bool:
        """Whether there was something to cancel. What runs is stopped soon after; a result that is faster stands."""
        live = self._live.get(request_id)
        if live is None:
            return False
        if not live.stop.is_set():
            live.stopped_by = why or live.stopped_by
            live.stop.set()
        if live in self._waiting:
            self._waiting.remove(live)
            await self._end(live, None, live.stopped_by)
        return True

    # ---- the way of a request

    async def _recover(self) -> None:
        """Puts what an earlier process left into the queue. Who waited on a connection is gone with that process."""
        for job in await keep_trying(self.jobs.open_jobs):
            live = Live(job.seq, job.id, job.low, job.deadline if job.state == "waiting" else None)
            live.attempts = job.attempts
            if job.api == "run":
                self._live[job.id] = live
                self._orphan(self.named(job.worker), job.id)
                await self._end(live, None, CLIENT_GONE)
            else:
                self._add(live)
        self.ready.set()

    def _add(self, live: Live) -> None:
        self._live[live.id] = live
        bisect.insort(self._waiting, live, key=lambda other: other.place)
        self._wake.set()

    async def _dispatch(self) -> None:
        await self._recover()
        if self._waiting:
            heard = asyncio.gather(*(until_up(comfyui) for comfyui in self.comfyuis))
            await asyncio.wait([heard], timeout=SETTLE_SECONDS)
            heard.cancel()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and (comfyui := self._least_loaded()):
                live = self._waiting.pop(0)
                self._busy[comfyui] = asyncio.create_task(self._see_through(live, comfyui))
                self._busy[comfyui].add_done_callback(report)

    def _least_loaded(self) -> ComfyUI | None:
        free = [comfyui for comfyui in self.comfyuis if comfyui.up and comfyui not in self._busy]
        return min(free, key=lambda comfyui: comfyui.queued, default=None)

    async def _see_through(self, live: Live, comfyui: ComfyUI) -> None:
        """Ends the request, or puts it back where its ComfyUI went away."""
        try:
            [outcome] = await asyncio.gather(self._attempt(live, comfyui), return_exceptions=True)
            if isinstance(outcome, Refused):
                await self._end(live, None, outcome.failure)
            elif isinstance(outcome, ComfyUIGone):
                await self._put_back(live, live.comfyui)
            elif isinstance(outcome, BaseException):
                logging.error("Fast AnimateDiff endpoints: request %s failed", live.id, exc_info=outcome)
                await self._end(live, None, UNEXPECTED)
            else:
                await self._end(live, outcome, None)
        finally:
            del self._busy[comfyui]
            self._wake.set()

    async def _attempt(self, live: Live, comfyui: ComfyUI) -> dict[str, Any] | None:
        """What a ComfyUI made: `comfyui`, or an earlier one that outlived whoever asked it."""
        job = await keep_trying(lambda: self.jobs.get(live.id))
        if job is None or job.state == "ended":
            return None
        earlier = self.named(job.worker)
        request = await keep_trying(lambda: self.jobs.request(live.id))
        if earlier and earlier.up and await self._still_has(live, earlier):
            return await adopt(live, job, request, earlier, self._preparation)
        if earlier is not comfyui:
            self._orphan(earlier, live.id)
        live.comfyui = comfyui
        if live.attempts >= MOST_ATTEMPTS:
            raise Refused(MACHINE_LOST)
        live.attempts += 1
        await keep_trying(lambda: self.jobs.send(live.id, comfyui.url))
        return await run(live, job, request, comfyui, self._preparation)

    async def _still_has(self, live: Live, earlier: ComfyUI) -> bool:
        """Errors: ComfyUIGone; Refused where one that can be reached fails to say it again and again."""
        live.comfyui = earlier
        try:
            return await earlier.job(live.id) is not None
        except ComfyUIGone:
            live.attempts += 1
            if live.attempts <= MOST_ATTEMPTS:
                raise
            self._orphan(earlier, live.id)
            raise Refused(MACHINE_LOST) from None

    async def _put_back(self, live: Live, comfyui: ComfyUI) -> None:
        comfyui.mark_unreachable()
        if live.stop.is_set():
            self._orphan(comfyui, live.id)
            await self._end(live, None, live.stopped_by)
            return
        live.log.say("ComfyUI went away while it worked on this; it goes on when one is there.", "WARN")
        live.began, live.deadline = None, None if live.began else live.deadline
        bisect.insort(self._waiting, live, key=lambda other: other.place)

    async def _end(self, live: Live, result: dict[str, Any] | None, failure: Failure | None) -> None:
        if failure:
            live.log.say(failure.message, "ERROR")
        lines, began = live.log.lines, live.began
        await keep_trying(lambda: self.jobs.end(live.id, result, failure, lines, began))
        self._live.pop(live.id, None)
        live.ended.set()

    # ---- what goes on beside

    def _orphan(self, comfyui: ComfyUI | None, request_id: str) -> None:
        """Has a request that ended, or runs elsewhere, stopped on a ComfyUI as soon as that can be reached."""
        if comfyui is not None:
            self._orphaned_prompts[comfyui].add(request_id)
            comfyui.changed.set()

    async def _watch(self, comfyui: ComfyUI) -> None:
        """Wakes the dispatch when one comes back, after what strayed on it is stopped."""
        while True:
            await comfyui.changed.wait()
            comfyui.changed.clear()
            if not comfyui.up:
                continue
            for request_id in list(self._orphaned_prompts[comfyui]):
                try:
                    await comfyui.cancel(request_id)
                except ComfyUIGone:
                    break
                self._orphaned_prompts[comfyui].discard(request_id)
            self._wake.set()

    async def _tick(self) -> None:
        """Ends requests whose time to begin is over, in a ComfyUI's own queue, too."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.time()
            late = [live for live in self._live.values() if live.deadline and live.deadline < now]
            for live in late:
                if not live.began:
                    await self.cancel(live.id, TOO_LATE)

    async def _expire(self) -> None:
        await self.ready.wait()
        while True:
            await keep_trying(lambda: self.jobs.expire(time.time() - self.keep))
            await asyncio.sleep(EXPIRE_SECONDS)


async def until_up(comfyui: ComfyUI) -> None:
    while not comfyui.up:
        await asyncio.sleep(0.02)


async def keep_trying(store: Callable[[], Awaitable[Answer]]) -> Answer:
    """Stores until it works: a full disk or a locked database must not lose a request that was accepted."""
    pause = 0.1
    while True:
        try:
            return await store()
        except StoreUnavailable as error:
            logging.warning("Fast AnimateDiff endpoints: can't use the database yet: %s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)


def report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        logging.error("Fast AnimateDiff endpoints: a part of the queue stopped", exc_info=task.exception())
