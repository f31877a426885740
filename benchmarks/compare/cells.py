"""The measurements: what each cell asks of the contenders, in turns, and the results."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .crew import Crew, Entry, WorkerError
from .jobs import Job

Show = Callable[[str], None]


@dataclass(frozen=True)
class Cell:
    """One row of the table. command: what the contender's process does. rounds: turns on a CPU, by default."""

    name: str
    title: str
    command: str
    job: Job
    rounds: int = 5
    inner: int = 1  # measured steps in a turn, where steps are measured
    values: dict[str, Any] = field(default_factory=dict)


def make_cells(pixels: int, steps: int, folder: Path) -> list[Cell]:
    """All cells, in the order they run. steps: measured steps in one turn of the step cells."""
    clip = Job(width=pixels, height=pixels)
    turbo = replace(clip, steps=8, cfg=2.0)
    long_clip = replace(clip, frames=64, layer_windows=True)
    reanimate = replace(clip, steps=25, strength=0.7)
    mp4 = {"path": str(folder / "clip.mp4")}
    return [
        Cell("cfg-step", "CFG step, 16 frames", "steps", clip, inner=steps),
        Cell("step", "cfg-1 step, 16 frames", "steps", replace(clip, cfg=1.0), inner=steps),
        Cell("frames-32", "CFG step, 32 frames", "steps", replace(clip, frames=32), inner=max(1, steps // 2)),
        Cell("frames-64", "CFG step, 64 frames", "steps", replace(clip, frames=64), rounds=3),
        Cell("frames-64-layers", "the same, motion_layers_only here", "steps", long_clip, rounds=3),
        Cell("decode", "VAE decode, 16 frames", "decode", clip),
        Cell("turbo", "turbo, 8 steps, cfg 2", "run", turbo, rounds=3),
        Cell("lightning", "Lightning, 4 steps, cfg 1", "run", replace(clip, steps=4, cfg=1.0), rounds=3),
        Cell("v2v", "video to video, 25 at 0.7", "run", reanimate, rounds=3, values={"video": True}),
        Cell("end-to-end", "turbo to the last byte of the mp4", "run", turbo, rounds=3, values=mp4),
        Cell("cold-start", "process start to first CFG step", "cold", replace(clip, steps=1), rounds=3),
        Cell("import", "import of the code, torch and host loaded", "imports", clip, rounds=3),
    ]


def measure(cell: Cell, entries: list[Entry], crew: Crew, rounds: int, show: Show) -> dict[str, Any]:
    """All turns of one cell, A-B-C-A-B-C; a contender that fails is named and left out of the later turns."""
    results: dict[str, dict[str, Any]] = {entry.name: {"seconds": []} for entry in entries}
    for number in range(rounds):
        said = []
        for entry in entries:
            found = results[entry.name]
            if "failed" in found:
                continue
            try:
                answer = take_turn(cell, entry, crew)
            except WorkerError as error:
                found["failed"] = str(error)
                show(f"    {entry.name} failed: {str(error).splitlines()[-1]}")
                continue
            found["seconds"] += answer.pop("seconds", [])
            keep(found, answer)
            said.append(f"{entry.name} {found['seconds'][-1]:.3f} s" if found["seconds"] else entry.name)
        show(f"    {cell.name}, round {number + 1} of {rounds}: {', '.join(said)}")
    for found in results.values():
        found.update(summary(found["seconds"]))
    return results


def take_turn(cell: Cell, entry: Entry, crew: Crew) -> dict[str, Any]:
    if cell.command in ("cold", "imports"):
        return take_cold_turn(cell, entry, crew)
    job = cell.job
    if cell.command == "steps":
        job = replace(job, steps=cell.inner + 2)  # the first warms up, the last has no end
    process = crew.start(entry)
    warms_itself = (
        cell.command == "steps" and entry.setting["device"] == "cpu"
    )  # by the step that is not counted
    if cell.name not in process.warm and not warms_itself:
        warm = replace(job, steps=min(job.steps, 3))
        crew.ask(entry, cell.command, job=warm, **cell.values)
    process.warm.add(cell.name)
    return crew.ask(entry, cell.command, job=job, **cell.values)


def take_cold_turn(cell: Cell, entry: Entry, crew: Crew) -> dict[str, Any]:
    """In a process of its own, from its start."""
    process = crew.cold(entry)
    try:
        if cell.command == "imports":
            return process.ask("imports")
        loaded = process.ask("load")
        process.ask("run", job=cell.job)
        seconds = time.perf_counter() - process.started
        return {"seconds": [seconds], "load": loaded["seconds"]}
    finally:
        process.stop()


def keep(found: dict[str, Any], answer: dict[str, Any]) -> None:
    """Peaks are the highest of all turns; of the rest the last counts, but for the layers, which are all kept."""
    for key, value in answer.items():
        if key.startswith("peak"):
            found[key] = max(found.get(key, 0), value)
        elif key == "layers":
            for level, seconds in value.items():
                found.setdefault("layers", {}).setdefault(level, []).append(seconds)
        else:
            found[key] = value


def summary(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    quarters = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    return {
        "median": statistics.median(seconds),
        "iqr": quarters[2] - quarters[0],
        "min": min(seconds),
        "count": len(seconds),
    }
