"""One request on its way: waiting -> preparing -> sent -> running -> ended."""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..comfyui.client import Answer, unless
from ..protocol.answers import Log
from ..protocol.failure import CANCELLED, Failure, Refused
from .jobs import Job
from .preparing import Prepared


@dataclass(eq=False)
class Request:
    """A request that has not ended. The queue owns it until it gives it to a lane, and again if the lane gives it back.

    needs_video: its video has to be fetched before its turn. asked: when that began; began: when a ComfyUI began to run it,
    past its own queue, both on the monotonic clock. failures: turns in a row in which it could not be sent. is_counted:
    its last attempt is one of `job.attempts`. step, steps: of the sampler.
    """

    job: Job
    needs_video: bool
    log: Log = field(default_factory=Log)
    began: float | None = None
    failures: int = 0
    is_counted: bool = True
    step: int = 0
    steps: int = 0
    preparing: asyncio.Task[None] | None = None
    asked: float = 0.0
    prepared: Prepared | None = None
    timer: asyncio.TimerHandle | None = None
    is_ending: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: Failure = CANCELLED

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def place(self) -> tuple[bool, int]:
        return self.job.low, self.job.seq

    @property
    def seconds(self) -> float | None:
        return time.monotonic() - self.began if self.began else None

    def tell(self, event: str, **more: Any) -> None:
        """A line in the process's log, for people and for programs: what happened, then names and values."""
        told = {"request_id": self.id, "endpoint": self.job.endpoint, **more}
        words = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in told.items())
        logging.info("Fast AnimateDiff endpoints: %s %s", event, words, extra=told)


class Taker(Protocol):
    """A lane. key: the identity of its ComfyUI; request: what it has; load: prompts that others have queued there."""

    key: str
    request: Request | None

    @property
    def load(self) -> int: ...

    def give(self, request: Request) -> None: ...


async def unless_stopped(request: Request, work: Awaitable[Answer]) -> Answer:
    """The result of the work; when the request is stopped, the work is cancelled and Refused raised."""
    return await unless(request.stop, work, lambda: Refused(request.stopped_by))
