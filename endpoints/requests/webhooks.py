"""Delivers the outcome of requests to their webhooks, again and again until each has been accepted."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from functools import partial
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from ..inputs.addresses import guarded_session
from ..protocol.answers import Address, webhook_body
from ..protocol.settings import Settings
from .jobs import Job, Jobs
from .signing import Signer
from .store import keep_trying

SECONDS = 15.0  # for one attempt
PAUSES = (5, 15, 30, 60, 120, 300, 600, 1200, 2400, 3600)
AT_ONCE, AT_ONCE_EACH = 256, 4  # deliveries at a time: in total, and to one address
LOOK_SECONDS = 0.3


class Webhooks:
    """Delivers every ended request that has a webhook. A receiver that does not answer delays only its own messages.

    pauses: seconds between attempts; the last one repeats.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        signer: Signer,
        names: AbstractResolver,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self.settings, self.jobs, self.signer = settings, jobs, signer
        self.names, self.pauses = names, pauses
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self._receivers: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._all = asyncio.Semaphore(AT_ONCE)

    async def run(self, ready: asyncio.Event) -> None:
        await ready.wait()
        try:
            while True:
                for request_id in await keep_trying(self.jobs.undelivered):
                    if request_id not in self._deliveries:
                        self._deliveries[request_id] = task = asyncio.create_task(self._deliver(request_id))
                        task.add_done_callback(partial(self._delivered, request_id))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in self._deliveries.values():
                task.cancel()

    async def _deliver(self, request_id: str) -> None:
        while (job := await keep_trying(lambda: self.jobs.get(request_id))) and job.hook_due is not None:
            # Stored so that it outlives a restart; if the clock was set since, it may be far off.
            await asyncio.sleep(min(max(0.0, job.hook_due - time.time()), self._pause(job.hook_attempts)))
            url = job.webhook or ""
            receiver = self._receivers.setdefault(url.partition("?")[0], asyncio.Semaphore(AT_ONCE_EACH))
            async with receiver, self._all:
                problem = await self._post(job, url)
            tried = job.hook_attempts + 1
            again = problem is not None and tried < self.settings.webhook_attempts
            if problem:
                end = "trying again" if again else "giving up"
                logging.warning(
                    "Fast AnimateDiff endpoints: the webhook of %s was not delivered, %s: %s",
                    job.id,
                    end,
                    problem,
                )
            due = time.time() + self._pause(tried) if again else None
            await keep_trying(partial(self.jobs.webhook_tried, job.id, due))

    def _pause(self, tried: int) -> float:
        return self.pauses[min(tried, len(self.pauses)) - 1] if tried else 0.0

    def _delivered(self, request_id: str, task: asyncio.Task[None]) -> None:
        del self._deliveries[request_id]
        if not task.cancelled() and task.exception():
            logging.error(
                "Fast AnimateDiff endpoints: the webhook of %s failed", request_id, exc_info=task.exception()
            )

    async def _post(self, job: Job, url: str) -> str | None:
        """None if the receiver accepted it, else what was wrong."""
        try:
            hosts = self.settings.allowed_hosts
            async with guarded_session(URL(url), hosts, SECONDS, self.names) as session:
                message = webhook_body(job.id, Address(job.address), job.result, job.failure)
                body = json.dumps(message).encode()
                signature = await asyncio.to_thread(self.signer.headers, job.id, body)
                headers = {"Content-Type": "application/json"} | signature
                async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                    return None if answer.status < 300 else f"it answered {answer.status}"
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
