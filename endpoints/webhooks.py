"""Tells the addresses that requests came with how the requests ended, until they have heard it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from .addresses import guarded_session
from .answers import Address, result_body
from .jobs import Job, Jobs
from .queue import keep_trying
from .settings import Settings

SECONDS = 15.0  # for one attempt
PAUSES = (5, 15, 30, 60, 120, 300, 600, 1200, 2400, 3600)
AT_ONCE = 16
LOOK_SECONDS = 0.5


class Webhooks:
    """Delivers every ended request that has a webhook.

    host: url of the ComfyUI that this runs in. pauses: seconds between attempts, the last one for all that follow.
    """

    def __init__(self, settings: Settings, jobs: Jobs, host: str, pauses: Sequence[float] = PAUSES) -> None:
        self.settings, self.jobs, self.host, self.pauses = settings, jobs, host, pauses

    async def run(self, ready: asyncio.Event) -> None:
        await ready.wait()
        while True:
            due = await keep_trying(lambda: self.jobs.due_webhooks(time.time(), AT_ONCE))
            await asyncio.gather(*(self._deliver(job) for job in due))
            await asyncio.sleep(LOOK_SECONDS)

    async def _deliver(self, job: Job) -> None:
        problem = await self._post(job)
        tried = job.hook_attempts + 1
        again = problem is not None and tried < self.settings.webhook_attempts
        due = time.time() + self.pauses[min(tried, len(self.pauses)) - 1] if again else None
        if problem:
            end = "it is tried again" if again else "it is given up"
            logging.warning(
                "Fast AnimateDiff endpoints: webhook of %s not delivered, %s: %s", job.id, end, problem
            )
        await keep_trying(lambda: self.jobs.webhook_tried(job.id, due))

    async def _post(self, job: Job) -> str | None:
        """None when the other side has taken it, else what was wrong."""
        try:
            async with guarded_session(job.webhook, self.settings.allowed_hosts, SECONDS) as session:
                body = message(job, Address(job.address, self.host if job.has_view else None))
                async with session.post(job.webhook, json=body, allow_redirects=False) as answer:
                    return None if answer.status < 300 else f"it answered {answer.status}"
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"


def message(job: Job, address: Address) -> dict[str, Any]:
    """The service's message. It is not signed: the service's key is the service's."""
    ids = {"request_id": job.id, "gateway_request_id": job.id}
    if job.failure:
        return {**ids, "status": "ERROR", "error": job.failure.message, "payload": job.failure.body}
    return {**ids, "status": "OK", "payload": result_body(job, address)}
