"""One ComfyUI and the request that it works on: a lane takes one at a time, so that the order is the queue's."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from ..comfyui.client import ComfyUI, ComfyUIGone, Event, NoSpace, PromptLost, PromptRefused
from ..comfyui.filling import Filled
from ..comfyui.outcome import files_of, find_written, read_result
from ..protocol.answers import Video
from ..protocol.failure import MACHINE_LOST, NO_SPACE, STALLED, Refused, refuse
from ..protocol.spelling import identity
from .jobs import Leftover, attempt_id, output_name
from .preparing import FULL_SECONDS
from .queue import Queue
from .request import Request, unless_stopped
from .store import keep_trying

MOST_ATTEMPTS = 10  # as the service does: a request that crashes its ComfyUI each time must end, too
ASK_SECONDS = 5.0  # between checks whether a prompt has ended, in case a message was lost
STOP_SECONDS = 5.0  # for a silent prompt to stop once it is cancelled
LOOK_SECONDS = 0.5  # between checks whether it has
SETTLE_SECONDS = 5.0  # for a ComfyUI to connect, before what it had goes to others
UNDER_WAY = ("pending", "in_progress")


class Lane:
    """Works through the queue with one ComfyUI until it is drained or its task is cancelled.

    silence: seconds without progress after which a running prompt is given up. is_stuck: the ComfyUI has a prompt that
    does not stop. Counts the requests that it ended, by whether there was a video.
    """

    def __init__(self, comfyui: ComfyUI, queue: Queue, silence: float) -> None:
        self.comfyui, self.queue, self.key = comfyui, queue, identity(comfyui.url)
        self.jobs, self.preparation, self.silence = queue.jobs, queue.preparation, silence
        self.request: Request | None = None
        self.is_draining = self.is_stuck = False
        self.done = self.failed = 0
        self._is_over = False  # its prompt has ended
        self._full_until = 0.0  # its disk is taken to be full until then
        self._poked = asyncio.Event()
        comfyui.on_change = self.poke

    @property
    def load(self) -> int:
        return self.comfyui.queued

    @property
    def is_serving(self) -> bool:
        return self.comfyui.up.is_set() and self.comfyui.runs_prompts() and not self.is_stuck

    def give(self, request: Request) -> None:
        self.request = request
        self._poked.set()

    def poke(self) -> None:
        """Makes a lane that waits look at what there is to do."""
        self._poked.set()

    async def run(self) -> None:
        await self.queue.ready.wait()
        while True:
            if not self.comfyui.up.is_set():
                await self._until_up()
            try:
                await self._clear()
            except ComfyUIGone:
                self.comfyui.mark_unreachable()
                continue
            if self.is_draining:
                return
            await self._stand_in_line()
            if self.request:
                await self._see_through(self.request)
                self.request = None

    async def _until_up(self) -> None:
        try:
            await asyncio.wait_for(self.comfyui.up.wait(), SETTLE_SECONDS)
        except asyncio.TimeoutError:
            self.queue.release(self.key)
            await self.comfyui.up.wait()
        self.queue.claim(self.key)

    async def _stand_in_line(self) -> None:
        """Returns with a request, or when something else is to be done first."""
        self._poked.clear()
        if self.is_draining or not self.comfyui.up.is_set():
            return
        self.queue.stand_in_line(self)
        try:
            await self._poked.wait()
        finally:
            self.queue.leave_line(self)

    # ---- the way of a request

    async def _see_through(self, request: Request) -> None:
        """Ends the request, or puts it back if the ComfyUI went away, lost it, or has no space for its video."""
        try:
            video = await self._attempt(request)
        except ComfyUIGone as error:
            self.comfyui.mark_unreachable()
            request.failures += 1
            logging.warning("Fast AnimateDiff endpoints: %s", error)
            await self.queue.put_back(request, "ComfyUI went away while it worked on this")
        except PromptLost as error:
            await self.queue.put_back(request, error)
        except NoSpace as error:
            self._full_until = time.monotonic() + FULL_SECONDS
            request.failures += 1
            if request.failures < MOST_ATTEMPTS:
                await self.queue.put_back(request, error)
            else:
                self.failed += 1
                await self.queue.end(request, None, NO_SPACE, request.job.leftover)
        except Exception as error:
            self.failed += not request.stop.is_set()
            is_silent = isinstance(error, Refused) and error.failure is STALLED
            await self.queue.fail(request, error, await self._let_go(request, is_silent))
        else:
            self.done += 1
            left = request.job.leftover
            is_elsewhere = left is not None and left.lent and identity(left.worker) != self.key
            leave = left._replace(output=None) if left and is_elsewhere else None  # its file is the result
            await self.queue.end(request, video, None, leave)

    async def _attempt(self, request: Request) -> Video:
        """What the ComfyUI made, or had made already. Errors: Refused; ComfyUIGone, PromptLost and NoSpace, after
        which the request may run again."""
        self._is_over = False
        job = request.job
        if request.stop.is_set():
            raise Refused(request.stopped_by)
        if request.failures >= MOST_ATTEMPTS:
            raise Refused(MACHINE_LOST)
        if job.worker:
            filled = await self.preparation.fill(job)
            if identity(job.worker) == self.key and await self.comfyui.job(job.prompt_id) is not None:
                return await self._follow(request, filled)
            if written := await find_written(filled, self.comfyui):
                return await self._keep(request, written)
        if job.attempts >= MOST_ATTEMPTS:
            raise Refused(MACHINE_LOST)
        if job.takes_video and request.prepared is None:
            request.needs_video = True
            raise PromptLost("ComfyUI no longer has this request")
        if request.prepared is None:
            request.prepared = await self.preparation.prepare(job, request.log)
        return await self._send(request)

    async def _send(self, request: Request) -> Video:
        job, prepared = request.job, request.prepared
        assert prepared is not None
        prompt_id = attempt_id(job.id, job.attempt + 1)
        lent = prepared.lent_to(self.comfyui, prompt_id)
        prepared.filled.name_output(output_name(job.id, job.attempt + 1))
        begun = {"worker": self.comfyui.url, "attempt": job.attempt + 1, "lent": lent}
        if lent:
            await self._change(request, job.leftover, state="preparing", **begun)
        await unless_stopped(request, prepared.bring_to(self.comfyui, lent))
        # Stored before the ComfyUI gets the prompt, which may end this process, too.
        leave = None if lent else job.leftover
        request.is_counted = True
        await self._change(request, leave, state="sent", attempts=job.attempts + 1, **begun)
        try:
            return await self._follow(request, prepared.filled, is_new=True)
        except PromptRefused as error:
            raise refuse(500, f"ComfyUI can't run this workflow: {error}", "runner_server_error") from error

    async def _follow(self, request: Request, filled: Filled, is_new: bool = False) -> Video:
        async with self.comfyui.watch(request.job.prompt_id) as events:
            if is_new:
                await self.comfyui.submit(filled.prompt, request.job.prompt_id)
            else:
                events.put_nowait(Event(None))
            request.failures = 0
            job = await unless_stopped(request, self._until_ended(request, filled, events))
        self._is_over = True
        return await self._keep(request, await read_result(job, filled, self.comfyui))

    async def _until_ended(
        self, request: Request, filled: Filled, events: asyncio.Queue[Event]
    ) -> dict[str, Any]:
        """The ended job as the ComfyUI describes it. Errors: ComfyUIGone, PromptLost, Refused."""
        heard = time.monotonic()
        while True:
            event, has_waited = Event(None), False
            try:
                event = await asyncio.wait_for(events.get(), min(ASK_SECONDS, self.silence))
            except asyncio.TimeoutError:
                has_waited = True
            if event.node_id is not None:
                heard = time.monotonic()
                await self._begins(request)
                if event.total:
                    request.step, request.steps = event.step, event.total
                if line := filled.line(event):
                    request.log.say(line)
                continue
            job = await self.comfyui.job(request.job.prompt_id)
            if job is None:
                raise PromptLost("ComfyUI no longer has this request in its queue")
            if job["status"] != "pending":
                await self._begins(request)
            elif has_waited and not request.began:
                heard = time.monotonic()
                await self._waits_there(request)
            if job["status"] not in UNDER_WAY:
                return job
            if time.monotonic() - heard > self.silence or not self.comfyui.runs_prompts():
                raise Refused(STALLED)

    async def _begins(self, request: Request) -> None:
        if request.began is None:
            request.began = time.monotonic()
            if request.timer:
                request.timer.cancel()
            attempts = request.job.attempts + (not request.is_counted)
            request.is_counted = True
            await self._change(request, state="running", attempts=attempts)

    async def _waits_there(self, request: Request) -> None:
        """It is behind others in the ComfyUI's own queue; if that ComfyUI dies now, something else was the cause."""
        self.queue.set_timer(request)
        if request.is_counted:
            request.is_counted = False
            await self._change(request, state="sent", attempts=request.job.attempts - 1)

    async def _change(self, request: Request, leave: Leftover | None = None, **columns: Any) -> None:
        request.job = await keep_trying(lambda: self.jobs.change(request.job, leave, **columns))

    async def _keep(self, request: Request, video: Video) -> Video:
        """Fetches the video, and takes back what was lent."""
        while True:
            try:
                video = await unless_stopped(
                    request, self.preparation.results.fetch(video, self.comfyui, request.id)
                )
                break
            except ConnectionError:
                raise
            except OSError as error:  # the disk is full; the video waits on the ComfyUI
                logging.warning("Fast AnimateDiff endpoints: can't store a video: %s", error.strerror)
                await unless_stopped(request, asyncio.sleep(FULL_SECONDS))
        if request.job.lent and identity(request.job.worker or "") == self.key:
            with suppress(ComfyUIGone, PromptRefused):  # its temp folder is emptied when it starts
                await self.comfyui.empty(request.job.lent)
        return video

    # ---- what is left of requests that have ended, or run elsewhere

    async def _let_go(self, request: Request, is_silent: bool) -> Leftover | None:
        """Stops the prompt of a request that ends without a video; returns what is left for `_clear`."""
        left = request.job.leftover
        if left is None or identity(left.worker) != self.key:
            return left
        with suppress(ComfyUIGone, PromptRefused):
            await self.comfyui.cancel(left.prompt_id)
            if left.lent:
                await self.comfyui.empty(left.lent)
            if is_silent and not await self._stops(left):
                self.is_stuck = True
                logging.error(
                    "Fast AnimateDiff endpoints: the ComfyUI at %s makes no progress and does not stop its prompt. "
                    "Look for an error in its log and restart it. Until it runs prompts again, requests wait.",
                    self.comfyui.url,
                )
        return None if self._is_over else left

    async def _stops(self, left: Leftover) -> bool:
        deadline = time.monotonic() + STOP_SECONDS
        while await self._is_under_way(left):
            if time.monotonic() > deadline or not self.comfyui.runs_prompts():
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def _is_under_way(self, left: Leftover) -> bool:
        job = await self.comfyui.job(left.prompt_id)
        return job is not None and job["status"] in UNDER_WAY

    async def _clear(self) -> None:
        """Stops prompts of attempts that are over, and empties their files. Takes as long as they do. Errors: ComfyUIGone."""
        for left in await keep_trying(self.jobs.leftovers):
            if identity(left.worker) == self.key:
                await self._remove(left)
        while not self.is_draining and not self._can_run():
            await asyncio.sleep(LOOK_SECONDS)
        self.is_stuck = False

    def _can_run(self) -> bool:
        return self.comfyui.runs_prompts() and time.monotonic() >= self._full_until

    async def _remove(self, left: Leftover) -> None:
        while await self._is_under_way(left):
            if self.is_draining:
                return
            await self.comfyui.cancel(left.prompt_id)
            await asyncio.sleep(LOOK_SECONDS)
        with suppress(PromptRefused):
            for file in files_of(await self.comfyui.job(left.prompt_id) or {}):
                if file.get("type") == "output" and left.output and left.output in file["filename"]:
                    await self.comfyui.empty(f"{file.get('subfolder', '')}/{file['filename']}", "output")
            if left.lent:
                await self.comfyui.empty(left.lent)
        await keep_trying(lambda: self.jobs.removed(left))
