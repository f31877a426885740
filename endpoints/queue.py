"""Gives requests in order to the least busy ComfyUI, and sees each one through to its end."""

from __future__ import annotations

import asyncio
import bisect
import logging
import time
from collections.abc import Coroutine, Sequence
from itertools import islice

from .attempt import Live, Runner, find_written, unless
from .comfyui import ComfyUI, ComfyUIGone, PromptLost
from .failure import CLIENT_GONE, MACHINE_LOST, TOO_LATE, Failure, Refused, refuse, wrong_field
from .jobs import Job, Jobs, NewJob, Result
from .preparing import Preparation
from .progress import Log
from .store import StoreUnavailable, keep_trying

UNEXPECTED = Failure(500, "An unexpected error occurred.", "internal_error")
MOST_ATTEMPTS = 10  # as the service does: a request that crashes its ComfyUI each time must end, too
VIDEOS_AHEAD = 8  # fetched before the turns of their requests
TICK_SECONDS = 0.1
READY_SECONDS = 10.0  # that a new request waits while earlier ones are being read
SETTLE_SECONDS = 2.0  # after a start, for every ComfyUI to connect before requests are sent


class Queue:
    """Accepts requests and sees them through. One request at a time per ComfyUI, so that the order is ours.

    most: how many requests may wait; more are refused with 429. silence: seconds without progress after which a running
    one is given up.
    """

    def __init__(
        self, jobs: Jobs, comfyuis: Sequence[ComfyUI], preparation: Preparation, most: int, silence: float
    ) -> None:
        self.jobs, self.comfyuis, self.most = jobs, list(comfyuis), most
        self._preparation, self._runner = preparation, Runner(jobs, silence)
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
        self.spawn(self._dispatch())
        self.spawn(self._tick())
        for comfyui in self.comfyuis:
            self.spawn(self._watch(comfyui))

    def spawn(self, loop: Coroutine[None, None, None]) -> None:
        """Runs something for as long as the queue."""
        task = asyncio.create_task(loop)
        task.add_done_callback(report)
        self._tasks.append(task)

    async def close(self) -> None:
        """Leaves the requests as they are; the next start continues with them."""
        fetching = [live.preparing for live in self._waiting if live.preparing]
        tasks = [*self._tasks, *self._busy.values(), *fetching]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for live in self._live.values():
            if live.prepared:
                live.prepared.discard()
        for comfyui in self.comfyuis:
            await comfyui.close()
        await self.jobs.close()

    # ---- what callers do

    async def recovered(self) -> None:
        """Returns once the requests of an earlier process are queued again. Errors: StoreUnavailable."""
        try:
            await asyncio.wait_for(self.ready.wait(), READY_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            raise StoreUnavailable("the requests of an earlier start could not be read yet") from None

    async def accept(self, new: NewJob, most: int | None = None) -> tuple[Job, bool]:
        """The stored request, and whether it is new: the same id again changes nothing. most: that may wait before it.

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
                self._add(Live.of(job, self._preparation.takes_video(job)))
            return job, not known

    def live(self, request_id: str) -> Live | None:
        """The request, unless it has ended or is unknown."""
        return self._live.get(request_id)

    def position(self, live: Live) -> int:
        """How many requests are ahead of it; 0 once it is with a ComfyUI."""
        index = bisect.bisect_left(self._waiting, live.place, key=lambda other: other.place)
        return index if live in self._waiting[index : index + 1] else 0

    def named(self, url: str | None) -> ComfyUI | None:
        return next((comfyui for comfyui in self.comfyuis if comfyui.url == url), None)

    async def cancel(self, request_id: str, why: Failure | None = None) -> bool:
        """Whether there was something to cancel. A running request stops soon after; a result that is faster stands."""
        live = self._live.get(request_id)
        if live is None:
            return False
        if not live.stop.is_set():
            live.stopped_by = why or live.stopped_by
            live.stop.set()
        if live in self._waiting:
            self._waiting.remove(live)
            self._orphan(live.comfyui, live.id)
            await self._end(live, None, live.stopped_by)
        return True

    # ---- the way of a request

    async def _recover(self) -> None:
        """Queues what an earlier process left, except for clients whose connection ended with that process."""
        for job in await keep_trying(self.jobs.open_jobs):
            live = Live.of(job, self._preparation.takes_video(job))
            live.comfyui = self.named(job.worker)
            if job.api == "run":
                self._live[job.id] = live
                self._orphan(live.comfyui, job.id)
                await self._end(live, None, CLIENT_GONE)
            else:
                self._add(live)
        self._preparation.remove_leftovers()
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
            if any(comfyui.up for comfyui in self.comfyuis):
                self._fetch_ahead()
            while (first := self._next()) and (comfyui := self._least_loaded()):
                self._waiting.remove(first)
                self._busy[comfyui] = asyncio.create_task(self._see_through(first, comfyui))
                self._busy[comfyui].add_done_callback(report)

    def _fetch_ahead(self) -> None:
        for live in islice((live for live in self._waiting if live.takes_video), VIDEOS_AHEAD):
            if live.needs_video and live.preparing is None:
                live.preparing = asyncio.create_task(self._prepare(live))
                live.preparing.add_done_callback(report)

    def _next(self) -> Live | None:
        """The first request that is ready: one that still waits for its video lets others pass."""
        return next((live for live in self._waiting if not live.needs_video), None)

    def _least_loaded(self) -> ComfyUI | None:
        free = [comfyui for comfyui in self.comfyuis if comfyui.up and comfyui not in self._busy]
        return min(free, key=lambda comfyui: comfyui.queued, default=None)

    async def _prepare(self, live: Live) -> None:
        """Fetches a request's video before its turn; ends the request if there is none."""
        try:
            job = await keep_trying(lambda: self.jobs.get(live.id))
            prepared = await unless(live, self._preparation.prepare(job, live.log)) if job else None
        except Exception as error:
            if live in self._waiting:
                self._waiting.remove(live)
                await self._fail(live, error)
        else:
            live.prepared, live.needs_video = prepared, False
            if live not in self._waiting and prepared:  # cancelled at the last moment
                prepared.discard()
        self._wake.set()

    async def _see_through(self, live: Live, comfyui: ComfyUI) -> None:
        """Ends the request, or puts it back if its ComfyUI went away."""
        try:
            result = await self._attempt(live, comfyui)
        except (ComfyUIGone, PromptLost) as error:
            await self._put_back(live, error)
        except Exception as error:
            await self._fail(live, error)
        else:
            await self._end(live, result, None)
        finally:
            del self._busy[comfyui]
            self._wake.set()

    async def _attempt(self, live: Live, comfyui: ComfyUI) -> Result | None:
        """What `comfyui` made, or an earlier ComfyUI that has gone on with the request since it was sent there."""
        job = await keep_trying(lambda: self.jobs.get(live.id))
        if job is None or job.state == "ended":
            return None
        earlier = self.named(job.worker)
        if live.failures >= MOST_ATTEMPTS:
            self._orphan(earlier, live.id)
            raise Refused(MACHINE_LOST)
        if job.worker:
            known = await self._preparation.fill(job, Log())
            for asked in dict.fromkeys(each for each in (earlier, comfyui) if each and each.up):
                live.comfyui = asked
                if asked is earlier and await asked.job(live.id) is not None:
                    return await self._runner.adopt(live, known, asked)
                if written := await find_written(known.filled, asked):
                    return written
        if earlier is not comfyui:
            self._orphan(earlier, live.id)
        live.comfyui = comfyui
        if job.attempts >= MOST_ATTEMPTS:
            raise Refused(MACHINE_LOST)
        if live.prepared is None and live.takes_video:
            live.needs_video = True
            raise PromptLost("ComfyUI no longer has this request")
        live.prepared = live.prepared or await self._preparation.prepare(job, live.log)
        return await self._runner.run(live, live.prepared, comfyui)

    async def _put_back(self, live: Live, error: ComfyUIGone | PromptLost) -> None:
        if isinstance(error, ComfyUIGone) and live.comfyui:
            live.comfyui.mark_unreachable()
            live.failures += 1
        if live.stop.is_set():
            self._orphan(live.comfyui, live.id)
            await self._end(live, None, live.stopped_by)
            return
        reason = error if isinstance(error, PromptLost) else "ComfyUI went away while it worked on this"
        live.log.say(f"{reason}; it waits for its next turn.", "WARN")
        live.began, live.deadline = None, None if live.began else live.deadline
        bisect.insort(self._waiting, live, key=lambda other: other.place)

    async def _fail(self, live: Live, error: Exception) -> None:
        if not isinstance(error, Refused):
            logging.error("Fast AnimateDiff endpoints: request %s failed", live.id, exc_info=error)
        await self._end(live, None, error.failure if isinstance(error, Refused) else UNEXPECTED)

    async def _end(self, live: Live, result: Result | None, failure: Failure | None) -> None:
        if failure:
            live.log.say(failure.message, "ERROR")
        lines, seconds = live.log.lines, live.seconds
        await keep_trying(lambda: self.jobs.end(live.id, result, failure, lines, seconds))
        if live.prepared:
            live.prepared.discard()
        self._live.pop(live.id, None)
        live.ended.set()

    # ---- what goes on beside

    def _orphan(self, comfyui: ComfyUI | None, request_id: str) -> None:
        """Stops a request that has ended, or runs elsewhere, on a ComfyUI as soon as that can be reached."""
        if comfyui is not None:
            self._orphaned_prompts[comfyui].add(request_id)
            comfyui.changed.set()

    async def _watch(self, comfyui: ComfyUI) -> None:
        """Stops the orphaned prompts of a ComfyUI that comes back, then wakes the dispatch."""
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
        """Ends requests that have not begun in time, including those in a ComfyUI's own queue."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            late = [live for live in self._live.values() if live.deadline and live.deadline < now]
            for live in late:
                if not live.began:
                    await self.cancel(live.id, TOO_LATE)


async def until_up(comfyui: ComfyUI) -> None:
    while not comfyui.up:
        await asyncio.sleep(0.02)


def report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        logging.error("Fast AnimateDiff endpoints: a part of the queue stopped", exc_info=task.exception())
