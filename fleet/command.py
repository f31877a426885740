"""The endpoints in front of a Ray cluster: what `dev.py fleet` does."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from ..endpoints.protocol.schemas import ENDPOINTS
from ..endpoints.serving import LANES, front
from ..endpoints.settings import load
from .arguments import WARM_ENDPOINT, fleet_arguments
from .options import BadOption
from .progress import duration
from .sources import first_ready, open_workers, ray_python
from .workers import cluster_command, cluster_environment

COLUMNS = ("worker", "node", "GPU", "state", "request", "done", "failed", "up")
SHOWN_ID = 8
TOLD_SECONDS = 10.0  # since a front last said what a worker does: there is none any more


async def up(options: argparse.Namespace) -> int:
    """Errors: BadOption, ValueError, OSError."""
    for name in options.warm or ():
        if name not in ENDPOINTS:
            raise BadOption(f"--warm {name} is not an endpoint. Use one of: {', '.join(ENDPOINTS)}.")
    options.folder.mkdir(parents=True, exist_ok=True)
    settings = load(options.folder.resolve(), os.environ)
    if options.host not in ("127.0.0.1", "::1", "localhost") and not settings.keys:
        raise BadOption(
            f"--host {options.host} lets others in: set keys, in FAD_ENDPOINTS_KEYS or {options.folder}."
        )
    settings = settings.model_copy(update={"enabled": True, "comfyui": ()})
    lanes = None

    def demand() -> int:
        return lanes.queue.waiting + lanes.queue.running if lanes else 0

    async with open_workers(options, settings, options.warm or [WARM_ENDPOINT], demand) as ray:
        app = front(settings, ray.ready())
        lanes = app[LANES]
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            ray.attach(lanes)
            await web.TCPSite(runner, options.host, options.port).start()
            print(
                f"The endpoints are at http://{options.host}:{options.port}/fal/. Ctrl-C ends them.",
                flush=True,
            )
            telling = asyncio.create_task(first_ready(ray, lambda text: print(text, flush=True)))
            await ray.taken_down.wait()
            telling.cancel()
            print("The workers have been taken down.")
        finally:
            await runner.cleanup()
    return 0


@contextmanager
def cluster(address: str, fleet: str) -> Iterator[subprocess.Popen[str]]:
    """A connection to the workers, without starting any."""
    process = subprocess.Popen(
        cluster_command(ray_python(), address, fleet),
        env=cluster_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_reports(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """The workers now. Errors: BadOption where Ray can't be reached, which has said why."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BadOption("There is no connection to Ray.")
    workers: list[dict[str, Any]] = json.loads(line)["workers"]
    return workers


def status(options: argparse.Namespace) -> int:
    with cluster(options.ray, options.fleet) as process:
        reports = read_reports(process)
    if options.json:
        print(json.dumps(reports))
    elif not reports:
        print("There are no workers. `python3 dev.py fleet up` starts them.")
    else:
        print(table([COLUMNS, *map(row, reports)]))
        for report in reports:
            if report.get("reason"):
                print(f"\n{report['name']}: {report['reason']}")
    return 0


def row(report: dict[str, Any]) -> tuple[str, ...]:
    lane = report.get("lane", {}) if report.get("told_seconds", 0) < TOLD_SECONDS else {}
    state, request = report["state"], lane.get("request_id")
    if request and state in ("ready", "draining"):
        step = f", step {lane['step']} of {lane['steps']}" if lane["steps"] else ""
        state = f"working{step}" if state == "ready" else f"draining{step}"
    return (
        report["name"],
        report.get("node", ""),
        report.get("gpu", ""),
        state,
        request[:SHOWN_ID] if request else "",
        str(lane.get("done", 0)),
        str(lane.get("failed", 0)),
        duration(report["seconds"]) if "seconds" in report else "",
    )


def table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    )


def down(options: argparse.Namespace) -> int:
    with cluster(options.ray, options.fleet) as process:
        assert process.stdin is not None
        reports = read_reports(process)
        names = [report["name"] for report in reports]
        if unknown := sorted(set(options.worker or ()) - set(names)):
            raise BadOption(f"There is no worker {unknown[0]}. There are: {', '.join(names) or 'none'}.")
        chosen = options.worker or names
        for name in chosen:
            print(json.dumps({"end" if options.now else "drain": [name]}), file=process.stdin, flush=True)
        said: list[str] = []
        while left := sorted({report["name"] for report in reports} & set(chosen)):
            if left != said:
                said = left
                print(f"Waiting for {', '.join(left)} ...", flush=True)
            if alone := [report["name"] for report in reports if is_alone(report)]:
                print(json.dumps({"end": alone}), file=process.stdin, flush=True)
            reports = read_reports(process)
    print(f"{len(chosen)} workers have ended." if chosen else "There were no workers.")
    return 0


def is_alone(report: dict[str, Any]) -> bool:
    """Whether it drains and nobody gives it requests, who would end it when it has finished."""
    return bool(report.get("draining")) and report["told_seconds"] > TOLD_SECONDS


def main() -> int:
    options = fleet_arguments().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if options.command == "up":
            return asyncio.run(up(options))
        return {"status": status, "down": down}[options.command](options)
    except (BadOption, ValueError, OSError) as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped. The workers stay; `python3 dev.py fleet down` ends them.", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
