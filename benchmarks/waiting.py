"""What the endpoints cost while thousands of requests wait: how fast they are accepted, asked about, and how much memory
they take.

`python3 dev.py bench waiting [--requests 10000]`. Bars: 200 accepted a second, 10 ms an answer (95 %), 150 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from run import name_checkout

ENDPOINT = "fal-ai/fast-animatediff/turbo/text-to-video"
REQUEST = {"prompt": "panda playing a guitar, on a boat, in the ocean, high quality, ultra HD" * 4}
AT_ONCE, ASKED = 32, 300
BARS = {"accepted a second": 200.0, "status, 95 %, ms": 10.0, "memory, MB": 150.0}


def serve(folder: str, most: int, port: multiprocessing.Queue) -> None:
    name_checkout()
    from aiohttp import web

    from fast_animatediff.endpoints.protocol.settings import Settings
    from fast_animatediff.endpoints.serving import front

    async def run() -> None:
        app = front(Settings(database=Path(folder, "requests.sqlite3"), max_queued=most))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.put(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def resident_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def measure(address: str, pid: int, number: int) -> dict[str, float]:
    async with aiohttp.ClientSession(address) as session:
        ids: list[str] = []

        async def submit() -> None:
            async with session.post(f"/fal/queue/{ENDPOINT}", json=REQUEST) as answer:
                ids.append((await answer.json())["request_id"])

        async def several(work: Callable[[], Awaitable[None]], times: int) -> None:
            for _ in range(times):
                await work()

        await submit()
        before, start = resident_megabytes(pid), time.perf_counter()
        await asyncio.gather(*(several(submit, number // AT_ONCE) for _ in range(AT_ONCE)))
        rate = len(ids) / (time.perf_counter() - start)
        grown = resident_megabytes(pid) - before
        seconds = []
        for request_id in ids[:: max(1, len(ids) // ASKED)]:
            start = time.perf_counter()
            path = f"/fal/queue/fal-ai/fast-animatediff/requests/{request_id}/status"
            async with session.get(path) as answer:
                body = json.loads(await answer.read())
            seconds.append(time.perf_counter() - start)
            assert body["status"] == "IN_QUEUE" and body["queue_position"] < len(ids)
    print(f"{len(ids)} requests wait; status median {statistics.median(seconds) * 1000:.1f} ms")
    return dict(zip(BARS, (rate, sorted(seconds)[int(len(seconds) * 0.95)] * 1000, grown), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    number = parser.parse_args().requests
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        port = context.Queue()
        process = context.Process(target=serve, args=(folder, 2 * number, port), daemon=True)
        process.start()
        try:
            found = asyncio.run(measure(f"http://127.0.0.1:{port.get(timeout=60)}", process.pid, number))
        finally:
            process.kill()
            process.join()
    for name, value in found.items():
        print(f"{name:20} {value:8.1f}  (bar: {BARS[name]:g})")
    rate, *others = (found[name] / bar for name, bar in BARS.items())
    return 0 if rate >= 1 and max(others) <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
