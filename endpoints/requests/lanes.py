"""The lanes of a front: one for each ComfyUI that works for it. They come and go while requests run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from ..comfyui.client import ComfyUI, ComfyUIGone
from ..protocol.spelling import identity, is_address
from .lane import SETTLE_SECONDS, Lane
from .queue import Queue
from .store import keep_trying

CONNECT_SECONDS = 1.0  # after a start, for all lanes to come: the least busy, not the first, gets what waits
RETURN_SECONDS = 20.0  # after a start, for the lane of a ComfyUI that had a request to be added again


State = Literal["away", "stuck", "idle", "busy", "draining"]


@dataclass(frozen=True)
class LaneState:
    """What a lane is doing. away: its ComfyUI does not answer; stuck: it does not stop a prompt. step of steps: of the
    sampler. done, failed: how many requests it has ended since it was added."""

    address: str
    state: State
    request_id: str | None
    endpoint: str | None
    step: int
    steps: int
    done: int
    failed: int


class Lanes:
    """Lanes by the address of their ComfyUI: the same one under two names is one lane. Only for the event loop.

    A process that embeds the endpoints finds this object under `serving.LANES` of the application:

        app = front(settings, workers=["http://127.0.0.1:8188"])
        lanes = app[LANES]
        lanes.add("http://10.0.0.7:8188")           # takes requests as soon as this ComfyUI answers
        await lanes.drain("http://10.0.0.7:8188")   # finishes the request it has, then leaves
        await lanes.remove("http://10.0.0.7:8188")  # leaves at once; its request goes to another lane

    silence: as a lane takes it. host: the ComfyUI around us, which is a lane only if it is added. connect: makes the
    client for another address.
    """

    def __init__(
        self, queue: Queue, silence: float, host: ComfyUI | None, connect: Callable[[str], ComfyUI]
    ) -> None:
        self.queue, self._silence, self._host, self._connect = queue, silence, host, connect
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[Lane, asyncio.Task[None]] = {}
        self._sender = ""  # until the lanes are started
        queue.has_lanes = self.is_serving

    def states(self) -> list[LaneState]:
        return [state_of(lane) for lane in self._lanes.values()]

    def is_serving(self) -> bool:
        """Whether any ComfyUI takes requests."""
        return any(lane.is_serving for lane in self._lanes.values())

    def named(self, url: str) -> ComfyUI | None:
        """The ComfyUI at an address, if it is one of ours."""
        if self._host and identity(self._host.url) == identity(url):
            return self._host
        lane = self._lanes.get(identity(url))
        return lane.comfyui if lane else None

    def add(self, address: str) -> None:
        """Adds a lane; one that is there, or is being drained, stays. Errors: ValueError for what is no address."""
        if not is_address(address):
            raise ValueError(f"{address!r} is not the address of a ComfyUI, such as http://127.0.0.1:8188")
        key = identity(address)
        lane = self._lanes.get(key)
        if lane is None:
            comfyui = self.named(address) or self._connect(address)
            lane = self._lanes[key] = Lane(comfyui, self.queue, self._silence)
            if self._sender:
                self._start(lane)
        elif lane in self._tasks and self._tasks[lane].done():  # drained by a caller who did not wait for it
            self._tasks[lane] = self.queue.spawn(lane.run())
        lane.is_draining = False

    async def drain(self, address: str) -> None:
        """Returns when the lane has finished its request and left, or has been added again."""
        if lane := self._lanes.get(identity(address)):
            lane.is_draining = True
            lane.poke()
            while lane.is_draining and lane in self._tasks and not self._tasks[lane].done():
                if not lane.comfyui.up.is_set() and lane.request is None:
                    break
                await asyncio.wait([self._tasks[lane]], timeout=SETTLE_SECONDS / 10)
            if lane.is_draining:
                await self.remove(address)

    async def remove(self, address: str) -> None:
        """The lane leaves at once. The request that it has is stopped there, if possible, and put back into the queue."""
        lane = self._lanes.pop(identity(address), None)
        if lane is None:
            return
        await self._stop(lane)
        if lane.request and not lane.request.is_ending:
            job = lane.request.job
            is_here = job.worker is not None and identity(job.worker) == lane.key
            if is_here:
                with suppress(ComfyUIGone, asyncio.TimeoutError):
                    await asyncio.wait_for(lane.comfyui.cancel(job.prompt_id), SETTLE_SECONDS)
            await self.queue.put_back(lane.request, "Its ComfyUI left", is_over=is_here)
        self.queue.release(lane.key)
        if lane.comfyui is not self._host:
            await lane.comfyui.close()

    async def run(self) -> None:
        """Begins with what an earlier process left."""
        self._sender = await keep_trying(self.queue.jobs.sender)
        if self._host:
            self._host.start(self._sender)
        for lane in self._lanes.values():
            self._start(lane)
        await self.queue.recover()
        deadline = time.monotonic() + CONNECT_SECONDS
        while not self.queue.has_all(self._lanes.values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.queue.open()
        await asyncio.sleep(RETURN_SECONDS)
        for key in set(self.queue.inboxes) - set(self._lanes):
            self.queue.release(key)

    async def close(self) -> None:
        """Leaves the requests as they are; the next start continues with them."""
        for lane in list(self._lanes.values()):
            await self._stop(lane)
        await self.queue.close()
        for lane in self._lanes.values():
            await lane.comfyui.close()
        if self._host:
            await self._host.close()

    def _start(self, lane: Lane) -> None:
        if lane.comfyui is not self._host:
            lane.comfyui.start(self._sender)
        self._tasks[lane] = self.queue.spawn(lane.run())
        logging.info("Fast AnimateDiff endpoints: lane_added worker=%s", lane.comfyui.url)

    async def _stop(self, lane: Lane) -> None:
        if task := self._tasks.pop(lane, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def state_of(lane: Lane) -> LaneState:
    request = lane.request
    if not lane.comfyui.up.is_set():
        state: State = "away"
    elif lane.is_draining:
        state = "draining"
    elif not lane.is_serving:
        state = "stuck"
    else:
        state = "busy" if request else "idle"
    if request is None:
        return LaneState(lane.comfyui.url, state, None, None, 0, 0, lane.done, lane.failed)
    job = request.id, request.job.endpoint, request.step, request.steps
    return LaneState(lane.comfyui.url, state, *job, lane.done, lane.failed)
