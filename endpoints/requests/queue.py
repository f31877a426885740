"""The requests that wait: accepted, in their order, with their videos fetched ahead, until a free lane takes them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ..protocol.answers import Video
from ..protocol.failure import CLIENT_GONE, TOO_LATE, Failure, Refused, refuse, wrong_field
from ..protocol.spelling import identity
from .jobs import Job, Jobs, Leftover, NewJob
from .places import Places
from .preparing import Preparation
from .request import Request, Taker, unless_stopped
from .store import StoreUnavailable, keep_trying

UNEXPECTED = Failure(500, "An unexpected error occurred.", "internal_error")
VIDEOS_AHEAD = 8  # requests whose videos are fetched before their turns,
MOST_AHEAD = 64  # beside, up to this, those whose videos have been on their way for longer than
SLOW_SECONDS = 5.0
READY_SECONDS = 10.0  # that a new request waits while earlier ones are being read


class Queue:
    """most: how many requests may wait; more are refused with 429. has_lanes: whether there is a ComfyUI to prepare for.
    is_closing: the process is about to end, so that whoever waits for a request has to be told.

    Since the start: `ended` counts requests by endpoint and outcome, `seconds` adds up how long those with a result ran.
    """

    def __init__(self, jobs: Jobs, preparation: Preparation, most: int) -> None:
        self.jobs, self.preparation, self.most = jobs, preparation, most
        self.has_lanes: Callable[[], bool] = lambda: True
        self.ready = asyncio.Event()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: dict[str, Request] = {}
        self._waiting, self._prepared = Places(), Places()
        self._inboxes: defaultdict[str, deque[Request]] = defaultdict(deque)
        self._line: list[Taker] = []
        self.is_closing = self._is_open = False
        self._accepting = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Runs something beside, no longer than the queue."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(report)
        return task

    async def close(self) -> None:
        """Leaves the requests as they are; the next start continues with them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for request in self._open.values():
            if request.timer:
                request.timer.cancel()
            if request.prepared:
                await request.prepared.discard()

    # ---- what callers do

    @property
    def waiting(self) -> int:
        """How many wait for a lane."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many are with a ComfyUI."""
        return len(self._open) - len(self._waiting)

    async def recovered(self) -> None:
        """Returns once the requests of an earlier process are queued again. Errors: StoreUnavailable."""
        if self.ready.is_set():
            return  # as each status is asked for, and the lines below cost as much as the answer
        try:
            await asyncio.wait_for(self.ready.wait(), READY_SECONDS)
        except asyncio.TimeoutError:
            raise StoreUnavailable("the requests of an earlier start could not be read yet") from None

    async def accept(self, new: NewJob, most: int | None = None) -> tuple[Job, bool]:
        """The stored request, and whether it is new: the same id again changes nothing. most: that may wait before it.

        Errors: StoreUnavailable; Refused with 429 when too many wait, 422 when the id is known with another input.
        """
        await self.recovered()
        # Shielded: what is stored has to be queued, too, though the caller may be cancelled in between.
        return await asyncio.shield(asyncio.ensure_future(self._accept(new, most)))

    async def _accept(self, new: NewJob, most: int | None) -> tuple[Job, bool]:
        waiting = len(self._waiting) + self._accepting
        is_full = waiting > min(self.most - 1, self.most if most is None else most)
        if is_full and await self.jobs.get(new.id) is None:
            raise refuse(429, f"{waiting} requests are already waiting. Try again later.")
        self._accepting += 1  # those that share a transaction must not take each other's last place
        try:
            job = await self.jobs.accept(new)
        finally:
            self._accepting -= 1
        if (job.endpoint, job.digest) != (new.endpoint, new.digest):
            message = "This request id was used before with another input."
            raise Refused(wrong_field("x-fal-request-id", message, "value_error", at="header"))
        known = job.id in self._open or job.state == "ended"
        if not known:
            self._add(job).tell("accepted")
        return job, not known

    def find(self, request_id: str) -> Request | None:
        """The request, unless it has ended or is unknown."""
        return self._open.get(request_id)

    def position(self, request_id: str) -> int:
        """How many requests are ahead of it; 0 once it is with a ComfyUI, or has ended."""
        request = self.find(request_id)
        return self._waiting.ahead_of(request) if request and request in self._waiting else 0

    async def cancel(self, request_id: str, why: Failure | None = None) -> bool:
        """Whether there was something to cancel. A running request stops soon after; a result that is faster stands."""
        request = self._open.get(request_id)
        if request is None:
            return False
        if not request.stop.is_set():
            request.stopped_by = why or request.stopped_by
            request.stop.set()
        if self._take_out(request):
            await self.end(request, None, request.stopped_by, request.job.leftover)
        return True

    # ---- what lanes do

    def stand_in_line(self, lane: Taker) -> None:
        """Gives the lane a request as soon as there is one for it: of its inbox first, then the first that is ready."""
        self._line.append(lane)
        self.match()

    def has_all(self, lanes: Iterable[Taker]) -> bool:
        """Whether each lane stands in line or has a request."""
        return all(lane.request or lane in self._line for lane in lanes)

    def open(self) -> None:
        """From now on, lanes get more than what is in their inboxes."""
        self._is_open = True
        self.match()

    def leave_line(self, lane: Taker) -> None:
        if lane in self._line:
            self._line.remove(lane)

    async def put_back(self, request: Request, reason: object, is_over: bool = False) -> None:
        """The request waits at its old place; its ComfyUI may go on with it, unless the attempt is over."""
        if request.is_ending:
            return
        job = request.job
        request.log.say(f"{reason}; it waits for its next turn.", "WARN")
        request.tell("given_back", worker=job.worker, attempt=job.attempt, reason=reason)
        columns: dict[str, Any] = {"state": "waiting", "deadline": None if request.began else job.deadline}
        if is_over:
            columns |= {"worker": None, "attempts": max(0, job.attempts - request.is_counted)}
        request.began, request.step = None, 0
        leave = job.leftover if is_over else None
        request.job = await keep_trying(lambda: self.jobs.change(job, leave, **columns))
        if request.stop.is_set():
            await self.end(request, None, request.stopped_by, job.leftover)
        else:
            self._place(request)

    def claim(self, key: str) -> None:
        """Moves what a ComfyUI may still have into its inbox, now that it answers."""
        for request in self._waiting:
            if request.job.worker and identity(request.job.worker) == key and self._take_out(request):
                self._inboxes[key].append(request)

    def release(self, key: str) -> None:
        """Lets any lane have what is in the inbox of a ComfyUI that does not answer."""
        for request in self._inboxes.pop(key, ()):
            self._place(request)

    @property
    def inboxes(self) -> list[str]:
        return list(self._inboxes)

    async def end(
        self, request: Request, video: Video | None, failure: Failure | None, leave: Leftover | None = None
    ) -> None:
        """Ends a request, once. leave: what its ComfyUI may still have of it."""
        if request.is_ending:
            return
        request.is_ending = True
        await asyncio.shield(self.spawn(self._end(request, video, failure, leave)))

    async def fail(self, request: Request, error: Exception, leave: Leftover | None = None) -> None:
        if not isinstance(error, Refused):
            logging.error("Fast AnimateDiff endpoints: request %s failed", request.id, exc_info=error)
        await self.end(request, None, error.failure if isinstance(error, Refused) else UNEXPECTED, leave)

    # ---- from one state to the next

    async def recover(self) -> None:
        """Queues what an earlier process left, except for clients whose connection ended with that process. What a
        ComfyUI may have is in its inbox until that is released."""
        await asyncio.to_thread(self.preparation.remove_leftovers)
        for job in await keep_trying(self.jobs.open_jobs):
            request = self._add(job)
            if job.api == "run":
                await self.cancel(job.id, CLIENT_GONE)
            elif job.worker:
                self._take_out(request)
                self._inboxes[identity(job.worker)].append(request)
        self.ready.set()
        self.match()

    def _add(self, job: Job) -> Request:
        # One that a ComfyUI may have needs its video only if it has to run again.
        request = Request(job, needs_video=job.takes_video and not job.worker)
        self._open[job.id] = request
        if job.state in ("waiting", "preparing"):
            self.set_timer(request)
        self._place(request)
        return request

    def set_timer(self, request: Request) -> None:
        """Ends the request if it has not begun by its deadline."""
        if request.job.deadline and request.timer is None:
            left = max(0.0, request.job.deadline - time.time())
            request.timer = asyncio.get_running_loop().call_later(left, self._is_late, request)

    def _is_late(self, request: Request) -> None:
        if not request.began:
            self.spawn(self.cancel(request.id, TOO_LATE))

    def _place(self, request: Request) -> None:
        self._waiting.add(request)
        if not request.needs_video:
            self._prepared.add(request)
        self.match()

    def _take_out(self, request: Request) -> bool:
        """Whether the request was here."""
        inbox = next((inbox for inbox in self._inboxes.values() if request in inbox), None)
        was_here = request in self._waiting or inbox is not None
        if inbox is not None:
            inbox.remove(request)
        for places in (self._waiting, self._prepared):
            places.discard(request)
        return was_here

    def match(self) -> None:
        """Gives free lanes what they can have, the least busy first, and fetches the next videos."""
        for lane in sorted(self._line, key=lambda lane: lane.load):
            ready = self._prepared.first(1) if self._is_open else ()
            request = next(iter(self._inboxes.get(lane.key) or ready), None)
            if request:
                self._take_out(request)
                self._line.remove(lane)
                lane.give(request)
        ahead = 0
        for request in self._waiting.first(MOST_AHEAD) if self.has_lanes() else ():
            if request.needs_video and request.preparing is None:
                request.preparing, request.asked = self.spawn(self._prepare(request)), time.monotonic()
                asyncio.get_running_loop().call_later(SLOW_SECONDS, self.match)
            ahead += not request.preparing or time.monotonic() - request.asked < SLOW_SECONDS
            if ahead == VIDEOS_AHEAD:
                break

    async def _prepare(self, request: Request) -> None:
        """Fetches a request's video before its turn; ends the request if there is none."""
        try:
            request.job = await keep_trying(lambda: self.jobs.change(request.job, state="preparing"))
            prepared = await unless_stopped(request, self.preparation.prepare(request.job, request.log))
        except Exception as error:
            if self._take_out(request):
                await self.fail(request, error)
        else:
            if request in self._waiting:
                request.prepared, request.needs_video = prepared, False
                self._prepared.add(request)
            else:  # cancelled at the last moment
                await prepared.discard()
        request.preparing = None
        self.match()

    async def _end(
        self, request: Request, video: Video | None, failure: Failure | None, leave: Leftover | None
    ) -> None:
        if failure:
            request.log.say(failure.message, "ERROR")
        lines, seconds = request.log.lines, request.seconds
        await keep_trying(lambda: self.jobs.end(request.id, video, failure, lines, seconds, leave))
        if request.timer:
            request.timer.cancel()
        if request.prepared:
            await request.prepared.discard()
        self._open.pop(request.id, None)
        outcome = (failure.error_type or "invalid_input") if failure else "completed"
        self.ended[request.job.endpoint, outcome] += 1
        if not failure:
            self.seconds[request.job.endpoint] += seconds or 0.0
        worker, attempt = request.job.worker, request.job.attempt
        request.tell(
            "ended", outcome=outcome, worker=worker, attempt=attempt, seconds=round(seconds or 0.0, 3)
        )
        request.ended.set()


def report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception():
        logging.error("Fast AnimateDiff endpoints: a part of the queue stopped", exc_info=task.exception())
