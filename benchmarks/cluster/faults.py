"""What may happen to a fleet in the middle of its work; after each, every request has ended once, with the right frames."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import av

from .local_ray import LocalRay
from .settable_clock import COMPILER
from .up import Up, wait_until

DAY = 86_400


@dataclass
class Scene:
    """A cluster of two nodes, and a front with a worker on each."""

    ray: LocalRay
    up: Up

    def busy(self) -> list[int]:
        """Ids of the processes (worker, ComfyUI) of one that has a request."""
        workers = self.up.workers()
        found = [each["pids"] for each in workers if each.get("lane", {}).get("state") == "busy"]
        return (found or [each["pids"] for each in workers if each.get("address")])[0]


def worker_killed(scene: Scene) -> None:
    os.kill(scene.busy()[0], signal.SIGKILL)


def comfyui_killed(scene: Scene) -> None:
    """What the kernel does, too, where memory runs out."""
    os.kill(scene.busy()[1], signal.SIGKILL)


def comfyui_stopped(scene: Scene) -> None:
    os.kill(scene.busy()[1], signal.SIGSTOP)


def worker_returns_late(scene: Scene) -> None:
    """The whole worker stands still for longer than the front waits, and goes on."""
    pids = scene.busy()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: "given_back" in scene.up.log, lambda: scene.up.log)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def node_killed(scene: Scene) -> None:
    """And another one joins later."""
    scene.ray.kill(scene.ray.nodes[1])
    time.sleep(10)
    scene.ray.start_node()


def head_killed(scene: Scene) -> None:
    """Ray knows nothing any more; head and node are started again."""
    for node in scene.ray.nodes[::-1]:
        scene.ray.kill(node)
    time.sleep(2)
    scene.ray.start_head()
    scene.ray.start_node()


def front_killed(scene: Scene) -> None:
    scene.up.kill()
    scene.up.start()


def database_locked(scene: Scene) -> None:
    """By another program, while the front starts."""
    scene.up.kill()
    with sqlite3.connect(scene.up.folder / "fast-animatediff-endpoints.sqlite3", timeout=60) as other:
        other.execute("BEGIN EXCLUSIVE")
        scene.up.start()
        time.sleep(15)
    other.close()


def clock_set_forward(scene: Scene) -> None:
    """By a month, on all machines at once: longer than results are kept."""
    set_clock(scene, 30 * DAY)


def clock_set_back(scene: Scene) -> None:
    set_clock(scene, -DAY)


def set_clock(scene: Scene, seconds: int) -> None:
    assert scene.ray.clock
    before = scene.up.time_of_day()
    scene.ray.clock.move(seconds)
    assert abs(scene.up.time_of_day() - before - seconds) < 60, "the front does not go by the clock"


FAULTS: dict[str, Callable[[Scene], None]] = {
    fault.__name__: fault
    for fault in (
        worker_killed,
        comfyui_killed,
        comfyui_stopped,
        worker_returns_late,
        node_killed,
        front_killed,
        database_locked,
        head_killed,
        *((clock_set_forward, clock_set_back) if COMPILER else ()),
    )
}


def read_frames(video: bytes) -> str:
    """A digest of the frames alone: a file also holds the name that it was given."""
    found = hashlib.sha256()
    with av.open(io.BytesIO(video)) as container:
        for frame in container.decode(video=0):
            found.update(frame.to_ndarray(format="rgb24").tobytes())
    return found.hexdigest()


def serial_run(up: Up, seeds: range) -> dict[int, str]:
    """What the requests give one after another."""
    return {seed: read_frames(up.video(up.submit(seed))) for seed in seeds}


def survive(scene: Scene, fault: Callable[[Scene], None], expected: dict[int, str]) -> float:
    """The seconds until every request had ended. Errors: AssertionError if one was lost, ran twice or gave other frames."""
    up = scene.up
    began = time.monotonic()
    ids = {up.submit(seed): seed for seed in expected}
    wait_until(lambda: "COMPLETED" in [up.status(request) for request in ids], lambda: up.log)
    fault(scene)
    got = {seed: read_frames(up.video(request)) for request, seed in ids.items()}
    seconds = time.monotonic() - began
    assert got == expected, "the frames differ"
    ended = Counter(re.findall(r"ended request_id=(\S+)", up.log))
    assert all(ended[request] == 1 for request in ids), {request: ended[request] for request in ids}
    return seconds
