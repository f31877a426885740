"""The workers of a Ray cluster as lanes: each is added when it is warm, and leaves when it is drained or gone."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..endpoints.requests.lanes import Lanes
from .worker import Comfy

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "bootstrap" / "run_in_pack.py"
CLUSTER = "fleet.cluster"
RECONNECT_SECONDS = 3.0
IDLE_SECONDS = 60.0  # for which there has to be less to do before `auto` gives workers back
LINE_BYTES = 1 << 24

Report = dict[str, Any]


def cluster_command(python: Path, ray: str, fleet: str) -> list[str]:
    """The process of cluster.py. python: the one of the environment that has Ray."""
    return [str(python), str(RUN), CLUSTER, "--ray", ray, "--fleet", fleet]


def cluster_environment() -> dict[str, str]:
    """With token authentication, unless the owner of the cluster has chosen otherwise."""
    return {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **os.environ}


@dataclass(frozen=True)
class Size:
    """How many workers there should be. most None: as many as the cluster has room for."""

    least: int
    most: int | None


class Demand:
    """Follows what is to be done: more workers at once, fewer only when there was less to do for a while."""

    def __init__(self, size: Size, seconds: float = IDLE_SECONDS) -> None:
        self._size, self._seconds = size, seconds
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, requests: int, now: float) -> None:
        self._seen.append((now, requests))
        while self._seen[0][0] < now - self._seconds:
            self._seen.popleft()

    def wanted(self, room: int) -> int:
        """room: for how many workers the cluster has a place."""
        most = room if self._size.most is None else self._size.most
        return max(self._size.least, min(most, max(count for _, count in self._seen)))


class RayWorkers:
    """Follows one fleet of a cluster while `run` runs. demand: how many requests there are to do.

    python: the one of the environment that has Ray. reports: the latest, by name. taken_down is set once somebody
    has drained every worker (`fleet down`).
    """

    def __init__(
        self,
        python: Path,
        ray: str,
        fleet: str,
        comfy: Comfy,
        size: Size,
        per_node: int | None,
        demand: Callable[[], int],
    ) -> None:
        self._command = [*cluster_command(python, ray, fleet), "--comfy"]
        self._command += [] if per_node is None else ["--per-node", str(per_node)]
        self._comfy, self._requests = comfy, demand
        self._demand = Demand(size)
        self.reports: dict[str, Report] = {}
        self.first_report, self.taken_down = asyncio.Event(), asyncio.Event()
        self._lanes: Lanes | None = None
        self._addresses: dict[str, str] = {}  # of those that are lanes, by name
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._drained_by_others = 0
        self._process: asyncio.subprocess.Process | None = None

    def ready(self) -> list[str]:
        """The addresses of those that can be given requests."""
        return [report["address"] for report in self.reports.values() if report["state"] == "ready"]

    def attach(self, lanes: Lanes) -> None:
        self._lanes = lanes

    async def run(self) -> None:
        """Until it is cancelled. A lost cluster is waited for: what its workers had goes to whoever comes next."""
        try:
            while True:
                try:
                    await self._follow()
                except Exception:  # without it, no worker would come or go any more
                    logging.exception("Fast AnimateDiff fleet: a report could not be followed")
                logging.warning("Fast AnimateDiff fleet: no connection to Ray; trying again")
                await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            for task in self._leaving.values():
                task.cancel()
            if self._process and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    async def _follow(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=cluster_environment(),
            limit=LINE_BYTES,
        )
        assert self._process.stdout is not None
        self._send(asdict(self._comfy))
        async for line in self._process.stdout:
            told = json.loads(line)
            self.reports = {report["name"]: report for report in told["workers"]}
            if not self.first_report.is_set():
                self._demand.note(len(self.reports), time.monotonic())  # warm ones are not ended at once
                self.first_report.set()
            if self._lanes:
                await self._reconcile(self._lanes)
            self._order(told["room"])
        await self._process.wait()

    async def _reconcile(self, lanes: Lanes) -> None:
        for name, address in list(self._addresses.items()):
            if name not in self.reports or self.reports[name]["address"] not in (None, address):
                del self._addresses[name]
                await lanes.remove(address)
        for name, report in self.reports.items():
            if report["state"] == "ready" and not self._is_leaving(name):
                self._addresses[name] = report["address"]
                lanes.add(report["address"])
            if report.get("draining") and not self._is_leaving(name):
                self._drained_by_others += 1
                self._leave(name, lanes)

    def _is_leaving(self, name: str) -> bool:
        return name in self._leaving

    def _leave(self, name: str, lanes: Lanes) -> None:
        async def leave() -> None:
            if address := self._addresses.get(name):
                await lanes.drain(address)
            self._send({"end": [name]})

        self._leaving[name] = asyncio.create_task(leave())

    def _order(self, room: int) -> None:
        """Tells the cluster how many are wanted; where there are more, those without work go first."""
        for name in [name for name in self._leaving if name not in self.reports]:
            del self._leaving[name]
        if self._drained_by_others and not self.reports:
            self.taken_down.set()
        self._demand.note(self._requests(), time.monotonic())
        wanted = max(0, self._demand.wanted(room) - self._drained_by_others)
        lanes = self._lanes
        states = {state.address: asdict(state) for state in lanes.states()} if lanes else {}
        staying = [name for name in self.reports if not self._is_leaving(name)]
        staying.sort(key=lambda name: self._rank(name, states), reverse=True)
        for name in staying[wanted:] if lanes else []:
            assert lanes is not None
            self._leave(name, lanes)
        self._send(
            {
                "wanted": wanted,
                "leaving": list(self._leaving),
                "lanes": {name: states[at] for name, at in self._addresses.items() if at in states},
            }
        )

    def _rank(self, name: str, lanes: dict[str, Report]) -> tuple[bool, bool]:
        """The higher, the longer it is kept: one with work, then one that is ready for some."""
        lane = lanes.get(self._addresses.get(name, ""), {})
        return lane.get("state") == "busy", self.reports[name]["state"] == "ready"

    def _send(self, order: dict[str, Any]) -> None:
        if self._process and self._process.stdin and self._process.returncode is None:
            with suppress(ConnectionError):
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
