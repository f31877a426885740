"""One request on one ComfyUI: its prompt is queued there and followed to its end."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from .comfyui import ComfyUI, Event, Prompt, PromptLost, PromptRefused
from .failure import (
    CANCELLED,
    INTERRUPTED,
    MISSING_VIDEO,
    STALLED,
    Failure,
    Refused,
    refuse,
    without_paths,
    wrong_field,
)
from .filling import Filled
from .jobs import Job, Jobs, Result
from .preparing import Prepared
from .progress import Log
from .store import keep_trying

Answer = TypeVar("Answer")
ASK_SECONDS = 5.0  # between checks whether a prompt has ended, in case a message was lost
STOP_SECONDS = 5.0  # for a silent prompt to stop once it is cancelled


@dataclass(eq=False)
class Live:
    """A request that has not ended.

    deadline: when it must have begun; began: when a ComfyUI began to run it, past its own queue; both monotonic.
    needs_video: its video must be fetched before its turn. failures: consecutive turns in which it could not be sent.
    comfyui: the one that was asked about it last.
    """

    seq: int
    id: str
    low: bool
    deadline: float | None
    takes_video: bool
    needs_video: bool
    log: Log = field(default_factory=Log)
    began: float | None = None
    failures: int = 0
    comfyui: ComfyUI | None = None
    preparing: asyncio.Task[None] | None = None
    prepared: Prepared | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: Failure = CANCELLED

    @classmethod
    def of(cls, job: Job, takes_video: bool) -> Live:
        """A request that a ComfyUI may already have needs its video only if it has to run again."""
        left = job.deadline - time.time() if job.deadline and job.state == "waiting" else None
        deadline = None if left is None else time.monotonic() + left
        return cls(job.seq, job.id, job.low, deadline, takes_video, takes_video and not job.worker)

    @property
    def place(self) -> tuple[bool, int]:
        return self.low, self.seq

    @property
    def seconds(self) -> float | None:
        return time.monotonic() - self.began if self.began else None


@dataclass(frozen=True)
class Runner:
    """Runs requests. silence: seconds without progress after which a running prompt is given up."""

    jobs: Jobs
    silence: float

    async def run(self, live: Live, prepared: Prepared, comfyui: ComfyUI) -> Result:
        """What the ComfyUI made. Errors: Refused; ComfyUIGone and PromptLost, after which it may run again."""
        async with discarding(prepared, comfyui):
            await unless(live, prepared.upload_to(comfyui))
            await keep_trying(lambda: self.jobs.send(live.id, comfyui.url))
            async with comfyui.watch(live.id) as events:
                await submit(comfyui, prepared.filled.prompt, live.id)
                live.failures = 0
                return await self._finish(live, prepared.filled, comfyui, events)

    async def adopt(self, live: Live, prepared: Prepared, comfyui: ComfyUI) -> Result:
        """The same for a request that the ComfyUI has queued, is running, or has already run."""
        async with discarding(prepared, comfyui), comfyui.watch(live.id) as events:
            events.put_nowait(Event(None))
            # Its events go to the process that queued it, so silence means nothing here.
            return await replace(self, silence=math.inf)._finish(live, prepared.filled, comfyui, events)

    async def _finish(
        self, live: Live, filled: Filled, comfyui: ComfyUI, events: asyncio.Queue[Event]
    ) -> Result:
        try:
            ended = await unless(live, self._follow(live, filled, comfyui, events))
        except Refused:
            await comfyui.cancel(live.id)
            raise
        return await read_result(ended, filled, comfyui)

    async def _follow(
        self, live: Live, filled: Filled, comfyui: ComfyUI, events: asyncio.Queue[Event]
    ) -> dict[str, Any]:
        """The ended job as the ComfyUI describes it. Errors: ComfyUIGone, PromptLost, Refused."""
        heard = time.monotonic()
        while True:
            event, waited = Event(None), False
            try:
                event = await asyncio.wait_for(events.get(), min(ASK_SECONDS, self.silence))
            except (TimeoutError, asyncio.TimeoutError):
                waited = True
            if event.node_id is not None:
                heard = time.monotonic()
                await self._begins(live)
                live.log.follow(filled.phases, event)
                continue
            job = await comfyui.job(live.id)
            if job is None:
                raise PromptLost("ComfyUI no longer has this request in its queue")
            if job["status"] not in ("pending", "in_progress"):
                await self._begins(live)
                return job
            if job["status"] == "in_progress":
                await self._begins(live)
            elif waited and not live.began:
                heard = time.monotonic()
                await keep_trying(lambda: self.jobs.waits_there(live.id))
            if time.monotonic() - heard > self.silence or not comfyui.runs_prompts():
                await stop_silent(live.id, comfyui)
                raise Refused(STALLED)

    async def _begins(self, live: Live) -> None:
        if not live.began:
            live.began = time.monotonic()
            await keep_trying(lambda: self.jobs.begins_there(live.id))


@asynccontextmanager
async def discarding(prepared: Prepared, comfyui: ComfyUI) -> AsyncIterator[None]:
    """Removes the request's video from the ComfyUI at the end, unless that may go on with it unheard."""
    try:
        yield
    except Refused:
        await prepared.discard_from(comfyui)
        raise
    await prepared.discard_from(comfyui)


async def unless(live: Live, work: Awaitable[Answer]) -> Answer:
    """The result of the work; when the request is stopped, the work is cancelled and Refused raised."""
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(live.stop.wait())
    try:
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refused(live.stopped_by)
        return task.result()
    finally:
        task.cancel()
        stop.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


async def submit(comfyui: ComfyUI, prompt: Prompt, prompt_id: str) -> None:
    try:
        await comfyui.submit(prompt, prompt_id)
    except PromptRefused as error:
        raise refuse(500, f"ComfyUI can't run this workflow: {error}", "runner_server_error") from error


async def stop_silent(prompt_id: str, comfyui: ComfyUI) -> None:
    """Cancels a prompt that makes no progress. If it does not stop, its ComfyUI gets no more prompts."""
    await comfyui.cancel(prompt_id)
    if comfyui.runs_prompts():
        await asyncio.sleep(STOP_SECONDS)
        job = await comfyui.job(prompt_id)
        if job is None or job["status"] not in ("pending", "in_progress"):
            return
    comfyui.mark_stalled()


async def find_written(filled: Filled, comfyui: ComfyUI) -> Result | None:
    """The video of a run whose end was missed: the file appears only once it is complete, and is named by the id."""
    for number in count(1):
        file = filled.output(number)
        result = await describe(file, filled, comfyui) if file else None
        if result is None or result["file_size"]:  # an empty file reserves the name
            return result
    return None


async def read_result(job: dict[str, Any], filled: Filled, comfyui: ComfyUI) -> Result:
    """The written file. Errors: Refused."""
    if job["status"] == "cancelled":
        raise Refused(INTERRUPTED)
    if job["status"] == "failed":
        raise Refused(describe_failure(job.get("execution_error") or {}, filled))
    shown = job.get("outputs", {}).get(filled.export_node, {})
    files = [file for files in shown.values() if isinstance(files, list) for file in files]
    files = [file for file in files if isinstance(file, dict) and "filename" in file]
    result = await describe(files[0], filled, comfyui) if files else None
    if result is None:
        raise Refused(MISSING_VIDEO)
    return result


async def describe(file: dict[str, str], filled: Filled, comfyui: ComfyUI) -> Result | None:
    described = await comfyui.describe(file)
    if described is None:
        return None
    content_type, size = described
    return Result(
        filename=file["filename"],
        subfolder=file.get("subfolder", ""),
        type=file.get("type", ""),
        content_type=content_type,
        file_size=size,
        worker=comfyui.url,
        seed=filled.seed,
    )


def describe_failure(error: dict[str, Any], filled: Filled) -> Failure:
    """A video that its loader can't read is the input's fault; everything else is ours."""
    message = without_paths(error.get("exception_message") or "ComfyUI gave no reason.")
    if filled.phases.get(error.get("node_id", "")) == "decode":
        return wrong_field("video_url", message, "video_load_error")
    return Failure(500, f"{error.get('node_type', 'ComfyUI')}: {message}", "runner_server_error")
