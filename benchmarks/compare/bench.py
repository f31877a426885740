"""One run of the benchmark: the contenders, the check, the cells, and the results so far."""

from __future__ import annotations

import argparse
import os
import platform
import signal
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from . import card
from .cells import Cell, make_cells, measure
from .contender import DTYPES
from .crew import Crew, Entry, WorkerError, room_for
from .jobs import Job
from .report import AGAIN, OURS, Results, compare, name_of, plot, report_text, save

TITLES = {"ours": "Fast AnimateDiff", "ade": "AnimateDiff-Evolved", "diffusers": "diffusers"}
# Relative errors of one UNet call. bf16 has 8 bits: rounding alone makes 1.3e-2, in each of the three contenders.
LARGEST_ERROR = {"fp32": 1e-2, "fp16": 1e-2, "bf16": 2e-2, "fp8": 2e-1, "auto": 2e-2}
LARGEST_ERROR_OF_CLIP = 1e-1  # after two guided steps, where rounding adds up; a wrong sampler is far above
CHECK = Job(steps=2)
ENCODE = 1117 / 2514  # of the operations of decoding, for SD1.5's VAE
VAE_WORK = {"decode": 1.0, "end-to-end": 1.0, "v2v": 1.0 + ENCODE}
GIGABYTES = {"fp32": 7.5, "bf16": 5.0, "fp16": 5.0, "fp8": 5.0, "auto": 7.5}  # of a full-size contender


def run(options: argparse.Namespace) -> int:
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.gpu:
        card.set_defaults(options)
    fill_defaults(options)
    folder = options.out / f"{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    cells = choose(make_cells(options.pixels, options.steps, folder), options.cells)
    results = new_results(options, cells)
    crew = Crew(folder, room=1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_once)
    try:
        take_part = prepare(options, folder, crew, results)
        keep(results, folder)
        for number, cell in enumerate(cells, start=1):
            print(f"{number} of {len(cells)}: {cell.title}", flush=True)
            run_cell(cell, take_part, crew, options, results)
            keep(results, folder)
        if options.gpu and take_part and take_part[0].contender == OURS:
            card.examine(take_part[0], crew, options, folder, results)
        results["finished"] = True
    except KeyboardInterrupt:
        print("\nStopped. What was measured:", flush=True)
    finally:
        crew.stop()
    keep(results, folder)
    print("\n" + full_text(results))
    print(f"Written to {folder}")
    return 0 if results["finished"] and not results["refused"] else 1


def stop_once(number: int, frame: object) -> None:
    """Ctrl-C, or the end of whatever started this: what was measured is kept, even after a second one."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def fill_defaults(options: argparse.Namespace) -> None:
    on_gpu = options.device == "cuda"
    options.dtypes = options.dtype.split(",") if options.dtype else ["bf16" if on_gpu else "fp32"]
    unknown = set(options.dtypes) - set(DTYPES)
    if unknown:
        raise SystemExit(f"--dtype {', '.join(sorted(unknown))}: there are {', '.join(DTYPES)}")
    options.size = options.size or ("full" if on_gpu else "small")
    options.pixels = options.pixels or (512 if on_gpu else 128)
    options.steps = options.steps or (8 if on_gpu else 3)


def choose(cells: list[Cell], wanted: str) -> list[Cell]:
    names = wanted.split(",") if wanted else [cell.name for cell in cells]
    known = {cell.name: cell for cell in cells}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"--cells {', '.join(unknown)}: there are {', '.join(known)}")
    return [known[name] for name in names]


def new_results(options: argparse.Namespace, cells: list[Cell]) -> Results:
    kept = ("device", "dtypes", "size", "pixels", "threads", "steps", "rounds", "one_at_a_time")
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "machine": {"name": machine_name(), "cores": os.cpu_count(), "load_before": load()},
        "options": {key: getattr(options, key) for key in kept} | {"cells": [cell.name for cell in cells]},
        "contenders": [], "skipped": {}, "refused": {}, "checks": {}, "counts": {}, "cells": [],
        "finished": False,
    }  # fmt: skip


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def machine_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), None)
    return f"{named or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def make_entries(options: argparse.Namespace) -> list[Entry]:
    """In the order of the turns. Ours comes twice, in processes of its own: their difference is the noise."""
    wanted = options.only.split(",") if options.only else list(TITLES)
    entries = []
    for dtype in options.dtypes:
        common = {
            "folder": str(options.out / f"weights-{options.size}"), "host": str(options.comfyui),
            "size": options.size, "device": options.device, "dtype": dtype, "threads": options.threads,
        }  # fmt: skip
        peers = {"ade": options.ade, "diffusers": options.diffusers}
        for contender in wanted:
            peer = peers.get(contender)
            setting = common | {"contender": contender, "peer": str(peer.resolve()) if peer else None}
            entries.append(Entry(name_of(contender, dtype), TITLES[contender], dtype, setting))
        if OURS in wanted:
            entries.append(
                Entry(name_of(AGAIN, dtype), "the same again", dtype, common | {"contender": OURS})
            )
            entries += card.variants(options, dtype, common) if options.gpu else []
    return entries


def prepare(options: argparse.Namespace, folder: Path, crew: Crew, results: Results) -> list[Entry]:
    """Makes weights and reference, then finds the contenders that load and compute the right thing. Only these are timed."""
    entries = make_entries(options)
    if options.ade is None:
        absent = [entry for entry in entries if entry.contender == "ade"]
        reason = "no --ade PATH was given, a checkout of its repository"
        results["skipped"] |= {entry.name: reason for entry in absent}
        entries = [entry for entry in entries if entry not in absent]
    job = replace(CHECK, width=options.pixels, height=options.pixels)
    reference = str(folder / "reference.pt")
    print("weights and reference", flush=True)
    setting = entries[0].setting | {"dtype": "fp32"}
    process = crew.cold(Entry("reference", "", "fp32", setting))
    try:
        answer = process.ask("reference", job=job, path=reference)
    finally:
        process.stop()
    results["weights"] = answer.pop("weights")
    results["machine"] |= answer
    if not options.one_at_a_time:
        crew.room = room_for(entries, max(gigabytes(options, dtype) for dtype in options.dtypes))
    take_part = [entry for entry in entries if passes(entry, crew, job, reference, results)]
    for name, reason in results["skipped"].items():
        print(f"  {name} is skipped: {reason}", flush=True)
    return take_part


def gigabytes(options: argparse.Namespace, dtype: str) -> float:
    """Of the main memory, for one contender."""
    return GIGABYTES[dtype] if options.device == "cpu" and options.size == "full" else 2.5


def passes(entry: Entry, crew: Crew, job: Job, reference: str, results: Results) -> bool:
    """Whether a contender is there and right; if not, the results say why."""
    try:
        version = crew.start(entry).loaded["version"]
        check = crew.ask(entry, "check", job=job, reference=reference)
    except LookupError as reason:
        results["skipped"][entry.name] = str(reason)
        return False
    except WorkerError as error:
        results["refused"][entry.name] = f"it failed: {str(error).splitlines()[-1]}"
        print(f"  {entry.name} failed:\n{error}", flush=True)
        return False
    results["checks"][entry.name] = check
    errors = f"one UNet call {check['error']:.1e}, clip {check['error_of_latents']:.1e}"
    if not (
        check["error"] < LARGEST_ERROR[entry.dtype] and check["error_of_latents"] < LARGEST_ERROR_OF_CLIP
    ):
        results["refused"][entry.name] = f"wrong output: relative error of {errors}"
        crew.stop(entry.name)
        print(f"  {entry.name} is REFUSED: {results['refused'][entry.name]}", flush=True)
        return False
    print(f"  {entry.name}: {version}, {check['calls']}, relative error of {errors}", flush=True)
    count_work(entry, crew, job, results)
    described = {"name": entry.name, "title": entry.title, "contender": entry.contender, "version": version}
    results["contenders"].append(described)
    return True


def count_work(entry: Entry, crew: Crew, job: Job, results: Results) -> None:
    if AGAIN in entry.name:
        return
    results["counts"][entry.name] = crew.ask(entry, "count", job=job)
    if entry.contender == OURS and "decode_flops" not in results:
        counted = crew.ask(entry, "count", job=replace(job, frames=1), what="decode")
        results["decode_flops"] = sum(counted["unet"]["flops"].values())


def run_cell(
    cell: Cell, entries: list[Entry], crew: Crew, options: argparse.Namespace, results: Results
) -> None:
    rounds = options.rounds or cell.rounds
    found = measure(cell, entries, crew, rounds, lambda line: print(line, flush=True))
    results["cells"].append({
        "name": cell.name, "title": cell.title, "results": found,
        "ratios": compare(found, options.dtypes), "floor": floor(cell, found, results),
    })  # fmt: skip


def floor(cell: Cell, found: dict[str, Any], results: Results) -> dict[str, float]:
    """Seconds that the operations of the UNet and the VAE would take at the rate of a matrix product, by precision."""
    rates, floors = results["machine"]["rates"], {}
    vae_flops = cell.job.frames * VAE_WORK.get(cell.name, 0.0) * results.get("decode_flops", 0)
    for dtype in results["options"]["dtypes"]:
        name = name_of(OURS, dtype)
        count, calls = results["counts"].get(name), found.get(name, {}).get("calls")
        if not (count and calls) or cell.command in ("cold", "imports"):
            continue
        in_half = results["options"]["device"] != "cpu" and dtype != "fp32"
        frames = frames_in(calls) / (cell.inner + 2 if cell.command == "steps" else 1)
        unet = sum(flops / rates[kind] for kind, flops in count["unet"]["flops"].items() if rates.get(kind))
        floors[dtype] = frames * unet / frames_in(count["calls"])
        floors[dtype] += vae_flops / rates["bfloat16" if in_half else "float32"]
    return floors


def frames_in(calls: str) -> int:
    """Frames through the UNet, from text such as `8 of 32 frames`; none in any other text."""
    return sum(int(part.split()[0]) * int(part.split()[2]) for part in calls.split(" + ") if " of " in part)


def full_text(results: Results) -> str:
    """The report, and of a run with --gpu what it adds."""
    more = (part for part in (card.card_table(results), card.missed_table(results)) if part)
    return "\n".join([report_text(results), *("\n".join(part) + "\n" for part in more)])


def keep(results: Results, folder: Path) -> None:
    results["machine"]["load_after"] = load()
    save(results, folder / "results.json")
    (folder / "table.md").write_text(full_text(results), encoding="utf-8")
    (folder / "plot.svg").write_text(plot(results), encoding="utf-8")
