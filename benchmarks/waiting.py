"""What the endpoints cost while thousands of requests wait: how fast they are accepted, asked about, and how much memory
they take.

`python3 dev.py bench waiting [--requests 10000]`. Bars: 200 accepted a second, 10 ms an answer (95 %), 150 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import run  # noqa: F401  # names the checkout

ENDPOINT = "fal-ai/fast-animatediff/turbo/text-to-video"
REQUEST = {"prompt": "panda playing a guitar, on a boat, in the ocean, high quality, ultra HD" * 4}
AT_ONCE, ASKED = 32, 300
BARS = {"accepted a second": 200.0, "status, 95 %, ms": 10.0, "memory, MB": 150.0}


def serve(folder: str, most: int) -> None:
    from aiohttp import web

    from fast_animatediff.endpoints.protocol.settings import Settings
    from fast_animatediff.endpoints.serving import front

    async def answer() -> None:
        app = front(Settings(database=Path(folder, "requests.sqlite3"), max_queued=most))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(answer())


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
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    number = options.requests
    if options.serve:
        serve(options.serve, 2 * number)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--requests", str(number), "--serve", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                port = int(process.stdout.readline())
                found = asyncio.run(measure(f"http://127.0.0.1:{port}", process.pid, number))
            finally:
                process.kill()
    for name, value in found.items():
        print(f"{name:20} {value:8.1f}  (bar: {BARS[name]:g})")
    rate, *others = (found[name] / bar for name, bar in BARS.items())
    return 0 if rate >= 1 and max(others) <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
