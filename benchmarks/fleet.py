"""How a fleet scales, and what it survives: real Ray and real ComfyUIs on this machine.

`python3 dev.py bench fleet scale [--workers 1,2,4] [--requests 64]`: a node of 3 s, on more and more workers
`python3 dev.py bench fleet tiny`: the tiny models on one worker and on two
`python3 dev.py bench fleet faults [NAME ...]`: each fault with 20 requests under way
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from run import name_checkout

name_checkout()

from fast_animatediff.benchmarks.cluster.faults import FAULTS, Scene, serial_run, survive  # noqa: E402
from fast_animatediff.benchmarks.cluster.local_ray import LocalRay  # noqa: E402
from fast_animatediff.benchmarks.cluster.settable_clock import COMPILER, SettableClock  # noqa: E402
from fast_animatediff.benchmarks.cluster.sleeper import make_sleeper, write_workflows  # noqa: E402
from fast_animatediff.benchmarks.cluster.up import Up  # noqa: E402

STEPS = 2  # of every request
UNDER_WAY = 20


@contextmanager
def fleet(
    base: Path, settings: Path, nodes: int, per_node: int, clock: SettableClock | None = None
) -> Iterator[Scene]:
    """A cluster with so many nodes, and a front with all its workers ready."""
    bin = Path(os.environ["FAD_RAY_PYTHON"]).parent
    with tempfile.TemporaryDirectory() as folder, LocalRay(Path(folder), bin, clock=clock) as ray:
        for _ in range(nodes - 1):
            ray.start_node()
        up = Up(ray, base, settings, "--workers", str(nodes * per_node), "--per-node", str(per_node)).start()
        try:
            up.until_ready(nodes * per_node)
            yield Scene(ray, up)
        finally:
            up.kill()


def time_requests(up: Up, number: int, **given: object) -> float:
    """Seconds from the first request to the end of the last."""
    began = time.monotonic()
    ids = [up.submit(seed, **given) for seed in range(number)]
    for request in ids:
        up.until_completed(request)
    return time.monotonic() - began


def scale(counts: list[int], number: int, seconds: float) -> None:
    print(f"{number} requests of {seconds:g} s on {os.cpu_count()} cores")
    print("workers  seconds  clips/min  of linear")
    first = 0.0  # seconds of one worker
    with tempfile.TemporaryDirectory() as folder:
        base = make_sleeper(Path(folder) / "base")
        for count in counts:
            settings = write_workflows(Path(folder) / f"up-{count}", seconds / STEPS)
            with fleet(base, settings, 1, count) as scene:
                took = time_requests(scene.up, number)
            first = first or took * count
            print(
                f"{count:7}  {took:7.1f}  {60 * number / took:9.1f}  {first / took / count:9.3f}", flush=True
            )


def tiny(number: int) -> None:
    base = Path(os.environ["FAD_DEV_BASE"])
    took = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2):
            settings = Path(folder) / f"up-{count}"
            settings.mkdir()
            with fleet(base, settings, 1, count) as scene:
                size = {"width": 64, "height": 64}
                took.append(
                    time_requests(scene.up, number, num_frames=8, num_inference_steps=8, video_size=size)
                )
                print(f"{count} workers: {number} clips in {took[-1]:.1f} s", flush=True)
    print(f"two against one: {took[0] / took[1]:.2f} times as fast, on {os.cpu_count()} cores")


def faults(names: list[str]) -> int:
    """How many of them the fleet did not survive."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        base = make_sleeper(Path(folder) / "base")
        settings = write_workflows(Path(folder) / "up", 1.0 / STEPS, answer_seconds=10)
        clock = SettableClock(Path(folder)) if COMPILER else None
        if clock is None:
            print("clock_set_forward, clock_set_back: not tried, they need Linux and a C compiler")
        with fleet(base, settings, 2, 1, clock) as scene:
            expected = serial_run(scene.up, range(UNDER_WAY))
            for name in names:
                scene.up.until_ready(2)
                try:
                    print(
                        f"{name:20} {survive(scene, FAULTS[name], expected):6.1f} s  each ended once",
                        flush=True,
                    )
                except (AssertionError, TimeoutError) as error:
                    failed += 1
                    print(f"{name:20} FAILED  {str(error)[-3000:]}", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("scale", "tiny", "faults"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of faults: {', '.join(FAULTS)}")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    if options.what == "scale":
        scale([int(count) for count in options.workers.split(",")], options.requests, options.seconds)
    elif options.what == "tiny":
        tiny(options.requests)
    else:
        return faults(options.names or list(FAULTS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
