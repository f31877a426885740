"""Where the ComfyUIs come from that render: addresses, one started here, or the workers of a Ray cluster."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..endpoints.protocol.settings import Settings
from .options import BadOption, comfy, has_tiny_models, warm_prompts, worker_size
from .worker import Worker
from .workers import RayWorkers

LOOK_SECONDS = 0.2
FIRST_SECONDS = 60.0  # for Ray to be reached


@dataclass(frozen=True)
class Source:
    """addresses: of the ComfyUIs that are ready at once. ray: the cluster that adds and removes others."""

    addresses: list[str]
    ray: RayWorkers | None = None

    def node_of(self, address: str) -> str:
        """The name of a worker's machine."""
        for report in self.ray.reports.values() if self.ray else ():
            if report["address"] == address:
                return str(report["node"])
        return urlsplit(address).netloc


@asynccontextmanager
async def open_source(
    options: argparse.Namespace,
    settings: Settings,
    endpoints: Iterable[str],
    demand: Callable[[], int],
    say: Callable[[str], None],
) -> AsyncIterator[Source]:
    """The ComfyUIs that the options name; at least one is ready. Errors: BadOption with the reason why there is none."""
    if options.comfyui and options.comfyui.startswith(("http://", "https://")):
        if options.ray:
            raise BadOption("--comfyui has to be a folder where --ray is given: each worker starts its own.")
        yield Source([address.strip().rstrip("/") for address in options.comfyui.split(",")])
        return
    if options.ray:
        async with open_workers(options, settings, endpoints, demand) as ray:
            say(f"Waiting for a worker of the Ray cluster at {options.ray} ...")
            await first_ready(ray, say)
            yield Source(ray.ready(), ray)
        return
    how = comfy(options, warm_prompts(endpoints, settings))
    say(f"Starting the ComfyUI in {how.folder} ...")
    if has_tiny_models(options):
        say("The models are tiny: they know shapes of 64x64 pixels. A clip of 512x512 takes minutes.")
    worker = Worker(how, "127.0.0.1")
    try:
        while worker.report()["state"] != "ready":
            if worker.report()["state"] == "failed":
                raise BadOption(worker.report()["reason"])
            await asyncio.sleep(LOOK_SECONDS)
        yield Source([worker.address])
    finally:
        await asyncio.to_thread(worker.end)


@asynccontextmanager
async def open_workers(
    options: argparse.Namespace, settings: Settings, endpoints: Iterable[str], demand: Callable[[], int]
) -> AsyncIterator[RayWorkers]:
    """The workers of the cluster that the options name, which are followed while the block runs. Errors: BadOption."""
    how = comfy(options, warm_prompts(endpoints, settings))
    ray = RayWorkers(
        ray_python(), options.ray, options.fleet, how, worker_size(options), options.per_node, demand
    )
    task = asyncio.create_task(ray.run())
    try:
        try:
            await asyncio.wait_for(ray.first_report.wait(), FIRST_SECONDS)
        except asyncio.TimeoutError:
            raise BadOption(f"Ray at {options.ray} was not reached.") from None
        yield ray
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def first_ready(ray: RayWorkers, say: Callable[[str], None]) -> None:
    """Returns when a worker can be given requests; says why others can't."""
    said: dict[str, Any] = {}
    while not ray.ready():
        for name, report in ray.reports.items():
            if report.get("reason") and said.get(name) != report["reason"]:
                said[name] = report["reason"]
                say(f"{name} on {report['node']}: {report['reason']}")
        await asyncio.sleep(LOOK_SECONDS)


def ray_python() -> Path:
    """The Python that has Ray, which `dev.py` names. Errors: BadOption."""
    try:
        return Path(os.environ["FAD_RAY_PYTHON"])
    except KeyError:
        raise BadOption("Ray is used through `python3 dev.py render` and `python3 dev.py fleet`.") from None
