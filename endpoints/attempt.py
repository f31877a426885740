"""One request on one ComfyUI: its prompt is made and queued there, and followed to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from .comfyui import ComfyUI, ComfyUIGone, Event, Prompt, PromptRefused
from .failure import (
    CANCELLED,
    INTERRUPTED,
    MISSING_VIDEO,
    Failure,
    Refused,
    refuse,
    without_paths,
    wrong_field,
)
from .filling import Filled
from .jobs import Job
from .progress import Log

Answer = TypeVar("Answer")
ASK_SECONDS = 5.0  # between questions whether a prompt has ended, in case a message got lost


@dataclass(eq=False)
class Live:
    """A request that has not ended. began: unix time, None until a ComfyUI works on it, its own queue over.

    attempts: how often a ComfyUI got it. comfyui: the last that was asked about it.
    """

    seq: int
    id: str
    low: bool
    deadline: float | None
    log: Log = field(default_factory=Log)
    began: float | None = None
    attempts: int = 0
    comfyui: ComfyUI | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: Failure = CANCELLED

    @property
    def place(self) -> tuple[bool, int]:
        return self.low, self.seq


class Preparation(Protocol):
    """What lies between a request and its prompt. Errors: Refused, ComfyUIGone."""

    async def upload_input(self, job: Job, request: dict[str, Any], comfyui: ComfyUI, log: Log) -> str | None:
        """Puts the request's video, if it has one, where the ComfyUI can read it; returns its name there."""

    async def discard_input(self, job: Job, comfyui: ComfyUI) -> None:
        """Takes that video away again."""

    def fill(self, job: Job, request: dict[str, Any], video: str | None, log: Log) -> Filled:
        """The prompt."""


async def run(
    live: Live,
    job: Job,
    request: dict[str, Any],
    comfyui: ComfyUI,
    preparation: Preparation,
) -> dict[str, Any]:
    """What the ComfyUI made, and the seed. Errors: Refused; ComfyUIGone, after which it can be tried again."""
    async with input_uploaded(job, comfyui, preparation):
        video = await unless(live, preparation.upload_input(job, request, comfyui, live.log))
        filled = preparation.fill(job, request, video, live.log)
        async with comfyui.watch(live.id) as events:
            await submit(comfyui, filled.prompt, live.id)
            return await finish(live, request, comfyui, filled, events)


async def adopt(
    live: Live, job: Job, request: dict[str, Any], comfyui: ComfyUI, preparation: Preparation
) -> dict[str, Any]:
    """The same of a request that the ComfyUI has in its queue, runs, or has run already."""
    filled = preparation.fill(job, request, "", Log())
    async with input_uploaded(job, comfyui, preparation), comfyui.watch(live.id) as events:
        events.put_nowait(Event(None))
        return await finish(live, request, comfyui, filled, events)


@asynccontextmanager
async def input_uploaded(job: Job, comfyui: ComfyUI, preparation: Preparation) -> AsyncIterator[None]:
    """Takes the request's video back at its end, but not where the ComfyUI may go on with it unheard."""
    try:
        yield
    except Refused:
        await preparation.discard_input(job, comfyui)
        raise
    await preparation.discard_input(job, comfyui)


async def finish(
    live: Live, request: dict[str, Any], comfyui: ComfyUI, filled: Filled, events: asyncio.Queue[Event]
) -> dict[str, Any]:
    try:
        ended = await unless(live, follow(live, comfyui, filled, events))
    except Refused:
        await comfyui.cancel(live.id)
        raise
    return {"seed": request["seed"], **await read_result(ended, filled, comfyui)}


async def unless(live: Live, work: Awaitable[Answer]) -> Answer:
    """The work's answer; Refused as soon as the request is stopped, with the work cancelled."""
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


async def follow(
    live: Live, comfyui: ComfyUI, filled: Filled, events: asyncio.Queue[Event]
) -> dict[str, Any]:
    """The job as the ComfyUI describes it when it has ended. Errors: ComfyUIGone, also where a restart made it forget
    the job; Refused where somebody took it from the ComfyUI's queue."""
    while True:
        told = True
        try:
            event = await asyncio.wait_for(events.get(), ASK_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            event, told = Event(None), False
        if event.node_id is not None:
            live.began = live.began or time.time()
            live.log.follow(filled.phases, event)
            continue
        job = await comfyui.job(live.id)
        if job is None and not told:  # it had the job, and has not been away since
            raise Refused(INTERRUPTED)
        if job is None:
            raise ComfyUIGone(f"{comfyui.url} does not know the request any more.")
        if job["status"] != "pending":
            live.began = live.began or time.time()
        if job["status"] not in ("pending", "in_progress"):
            return job


async def read_result(job: dict[str, Any], filled: Filled, comfyui: ComfyUI) -> dict[str, Any]:
    """The written file: filename, subfolder, type, content_type, file_size, worker. Errors: Refused."""
    if job["status"] == "cancelled":
        raise Refused(INTERRUPTED)
    if job["status"] == "failed":
        raise Refused(describe_failure(job.get("execution_error") or {}, filled))
    shown = job.get("outputs", {}).get(filled.export_node, {})
    files = [file for files in shown.values() if isinstance(files, list) for file in files]
    files = [file for file in files if isinstance(file, dict) and "filename" in file]
    described = await comfyui.describe(files[0]) if files else None
    if described is None:
        raise Refused(MISSING_VIDEO)
    content_type, size = described
    place = {name: files[0].get(name, "") for name in ("filename", "subfolder", "type")}
    return {**place, "content_type": content_type, "file_size": size, "worker": comfyui.url}


def describe_failure(error: dict[str, Any], filled: Filled) -> Failure:
    """A video that the node which reads it finds unfit is the input's fault, all else is ours."""
    message = without_paths(error.get("exception_message") or "ComfyUI gave no reason.")
    if filled.phases.get(error.get("node_id", "")) == "decode":
        return wrong_field("video_url", message, "video_load_error")
    return Failure(500, f"{error.get('node_type', 'ComfyUI')}: {message}", "runner_server_error")
