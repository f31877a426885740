"""Deletes requests a while after they ended, by a clock that may be set meanwhile."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from .jobs import Jobs
from .results import Results
from .store import keep_trying

LOOK_SECONDS = 60.0
CLOCK_SECONDS = 10.0  # by which the clock may drift before it counts as set


async def expire(jobs: Jobs, results: Results, keep: float, ready: asyncio.Event) -> None:
    """Deletes what ended more than `keep` seconds ago, with its video. If the clock is set, the stored times are moved with it."""
    await ready.wait()
    ahead = time.time() - time.monotonic()
    while True:
        moved = time.time() - time.monotonic() - ahead
        if abs(moved) > CLOCK_SECONDS:
            ahead += moved
            await keep_trying(partial(jobs.clock_was_set, moved))
        before = time.time() - keep
        gone = await keep_trying(partial(jobs.delete, before))
        # Also those that nobody has known since a database was set aside, or a process was killed just here.
        old = await asyncio.to_thread(results.older, before)
        unknown = await keep_trying(partial(jobs.unknown, old))
        await asyncio.to_thread(results.remove, {*gone, *unknown})
        await asyncio.sleep(LOOK_SECONDS)
