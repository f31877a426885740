"""What `--gpu` adds to a run: every family in every precision against fp32, waits, a profile, and the bars that are missed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .crew import Crew, Entry, WorkerError
from .jobs import Job, relative_error
from .report import OURS, Results, name_of

CELLS = "cfg-step,step,frames-32,frames-64,turbo,v2v,lightning"
VARIANTS = {
    "fused": "ours, fused kernels",
    "compiled": "ours, TorchCompileModel",
    "channels_last": "ours, channels_last",
}
# Largest relative error of a UNet call against fp32 on the same card. fp8 holds weights with three bits.
PARITY = {"fp16": 1e-2, "bf16": 3e-2, "fp8": 2e-1}
# How many times as long AnimateDiff-Evolved and diffusers have to take, by cell.
FASTER = {"cfg-step": 1.3, "turbo": 1.4, "frames-64": 1.2}
PEAK = 0.6  # of AnimateDiff-Evolved's activations


def set_defaults(options: argparse.Namespace) -> None:
    """One command, under eight minutes on a card; with --small, the same path in tiny shapes."""
    on_card = options.device == "cuda"
    options.dtype = options.dtype or ("fp16" if on_card else "fp32")
    options.parity = ["fp16", "bf16", "fp8"] if on_card else ["bf16"]
    options.cells = options.cells or CELLS
    options.rounds = options.rounds or 2
    if options.small:
        options.size, options.pixels, options.steps, options.rounds = "test", 64, 1, 1


def variants(options: argparse.Namespace, dtype: str, common: dict[str, Any]) -> list[Entry]:
    """This pack as other settings of the host run it."""
    return [
        Entry(name_of(f"{OURS} {name}", dtype), title, dtype, common | {"contender": OURS, "variant": name})
        for name, title in VARIANTS.items()
    ]


def examine(entry: Entry, crew: Crew, options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Fills in results["card"]. entry: this pack's, whose process is already loaded."""
    found: dict[str, Any] = {"parity": {}}
    results["card"] = found
    job = Job(width=options.pixels, height=options.pixels, steps=3)
    try:
        print("waits and profile", flush=True)
        found["waits"] = crew.ask(entry, "waits", job=job)["waits"]
        crew.ask(entry, "profile", job=job, path=str(folder / "profile.txt"))
    except WorkerError as error:
        found["failed"] = str(error).splitlines()[-1]
    crew.stop()
    exact: dict[str, str] = {}
    for dtype in ["fp32", *options.parity]:
        print(f"families in {dtype}", flush=True)
        process = crew.cold(Entry(f"families {dtype}", "", dtype, entry.setting | {"dtype": dtype}))
        try:
            paths = process.ask("families", job=replace(job, steps=1), folder=str(folder))
        except WorkerError as error:
            found["parity"][dtype] = {"failed": str(error).splitlines()[-1]}
            continue
        finally:
            process.stop()
        exact = exact or paths
        if dtype != "fp32":
            found["parity"][dtype] = {
                family: relative_error(torch.load(path), torch.load(exact[family]))
                for family, path in paths.items()
            }


def missed(results: Results) -> list[str]:
    """The bars that were measured and not reached, and what could not be measured at all."""
    lines = []
    for cell in results["cells"]:
        for name, ratio in cell["ratios"].items():
            bar = FASTER.get(cell["name"])
            if bar and name.split()[0] in ("ade", "diffusers") and ratio < bar:
                lines.append(f"{cell['title']}: {name} takes {ratio:.2f} times as long, {bar} is the bar")
        lines += [
            f"{cell['title']}: {name} failed" for name, found in cell["results"].items() if "failed" in found
        ]
        if cell["name"] == "cfg-step":
            lines += missed_memory(cell["results"], results["options"]["dtypes"])
    lines += [f"{name} was not measured: {reason}" for name, reason in results["skipped"].items()]
    lines += [f"{name} was refused: {reason}" for name, reason in results["refused"].items()]
    card = results.get("card", {})
    lines += [f"waits and profile failed: {card['failed']}"] if "failed" in card else []
    lines += [f"a step waits for the card: {line}" for line in card.get("waits", [])]
    for dtype, errors in card.get("parity", {}).items():
        for family, error in errors.items():
            if family == "failed" or not error < PARITY[dtype]:
                lines.append(f"{family} in {dtype}: {error}, {PARITY[dtype]} is the bar")
    return lines


def missed_memory(found: dict[str, Any], dtypes: list[str]) -> list[str]:
    lines = []
    for dtype in dtypes:
        ours, theirs = (found.get(name_of(name, dtype), {}).get("peak_bytes", 0) for name in (OURS, "ade"))
        if theirs and ours > PEAK * theirs:
            lines.append(f"peak of activations in {dtype}: {ours / theirs:.2f} of theirs, {PEAK} is the bar")
    return lines


def card_table(results: Results) -> list[str]:
    parity = results.get("card", {}).get("parity")
    if not parity:
        return []
    families = sorted({family for errors in parity.values() for family in errors})
    lines = [f"| error against fp32 | {' | '.join(families)} |", f"|---|{'---|' * len(families)}"]
    for dtype, errors in parity.items():
        row = [f"{errors[f]:.1e}" if isinstance(errors.get(f), float) else "-" for f in families]
        lines.append(f"| {dtype} | {' | '.join(row)} |")
    return lines


def missed_table(results: Results) -> list[str]:
    if "card" not in results:
        return []
    lines = missed(results)
    return [f"{len(lines)} bars missed" if lines else "no bar missed", *(f"- {line}" for line in lines)]
