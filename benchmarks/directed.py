"""Clips that are directed along their frames, here and in AnimateDiff-Evolved: the same frames? In what time and memory?

    python3 dev.py bench directed --ade PATH_OF_A_CHECKOUT [--acn PATH_OF_ADVANCED_CONTROLNET]

Prompt travel, strength and scale per frame, masks, ControlNet, windows, loops and FreeNoise. Both packs sample in this process,
in turns, with the same random weights, noise and functions of the host. Written to .dev/bench/directed-DATE/. What the columns
mean, and what was found: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import run
import torch

from fast_animatediff.benchmarks.compare import bench, directions, host, jobs, weights
from fast_animatediff.benchmarks.compare.ade import Evolved
from fast_animatediff.benchmarks.compare.contender import Setting
from fast_animatediff.benchmarks.compare.directed_clips import (
    HEAD,
    Clip,
    compare_plans,
    is_expected,
    measure,
    row,
)
from fast_animatediff.benchmarks.compare.machine import machine
from fast_animatediff.benchmarks.compare.ours import Ours


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run.add_places(parser)
    parser.add_argument("--acn", type=Path, metavar="PATH", help="a checkout of ComfyUI-Advanced-ControlNet")
    parser.add_argument("--size", choices=tuple(jobs.SIZES), default="small", help="default: small")
    parser.add_argument("--pixels", type=int, default=64, help="width and height; default: 64")
    parser.add_argument("--steps", type=int, default=2, help="of a clip; default: 2")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each pack; default: 2")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--only", default="", help="rows with this in their names")
    return parser.parse_args(arguments)


def measure_all(options: argparse.Namespace, results: dict[str, Any], show: Callable[[str], None]) -> None:
    """Adds all rows to the results, and shows each as soon as it is known."""
    torch.set_num_threads(options.threads)
    size, folder = jobs.SIZES[options.size], options.out / f"weights-{options.size}"
    setting = Setting("ours", folder, options.comfyui, size, threads=options.threads, peer=options.ade)
    host.use_host(setting.host, setting.device, setting.dtype)
    weights.make_weights(folder, size)
    ours, control = Ours(setting), directions.make_control(size)
    theirs = Evolved(setting) if options.ade else None
    if options.acn:
        directions.import_advanced_controlnet(options.acn)
    for name in ("AnimateDiffEvo", "Advanced-ControlNet"):
        logging.getLogger(name).setLevel(logging.WARNING)
    about = {"machine": bench.machine_name(), "load": bench.load(), **machine("cpu")["versions"]}
    if theirs:
        about |= {"AnimateDiff-Evolved": theirs.version(), "plans": compare_plans()}
    results |= about | {"rows": []}
    show("\n".join(f"- {name}: {value}" for name, value in about.items()) + f"\n\n{HEAD}")
    for case in directions.make_cases():
        if options.only not in case.name or (case.control_strength and not options.acn):
            continue
        job = jobs.Job(case.frames, options.pixels, options.pixels, options.steps)
        our_clip = Clip(
            *(directions.our_model(ours, case, job.width), directions.our_prompts(case), case, job, control),
            directions.our_control_strength,
        )
        their_clip = None
        if theirs:
            model, prompts = directions.their_model(theirs, case, job.width), directions.their_prompts(case)
            their_clip = Clip(model, prompts, case, job, control, directions.their_control_strength)
        results["rows"].append(measure(case, our_clip, their_clip, options.rounds))
        show(row(results["rows"][-1]))


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    folder = options.out / f"directed-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    results: dict[str, Any] = {}
    try:
        measure_all(options, results, lambda text: print(text, flush=True))
    finally:
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\nWritten to {folder}")
    return 0 if all(is_expected(found) for found in results["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
