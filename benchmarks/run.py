"""This pack beside AnimateDiff-Evolved and diffusers, on the same random weights: checked, then timed in turns.

    python3 dev.py bench --ade PATH_OF_A_CHECKOUT [--cells cfg-step,decode] [--dtype fp32,bf16] [--size full]

A table, a JSON file and a plot land in .dev/bench/. What each cell is, and how it is measured: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEV = Path(os.environ.get("FAD_DEV_BASE") or ROOT / ".dev" / "base").parent


def name_checkout() -> None:
    """Makes the checkout importable as `fast_animatediff`, without its entry point, and keeps it off the path."""
    package = types.ModuleType("fast_animatediff")
    package.__path__ = [str(ROOT)]
    sys.modules["fast_animatediff"] = package
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != ROOT / "benchmarks"]


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where the host and the peers are, and where results go."""
    comfyui = os.environ.get("COMFYUI_PATH") or ROOT / ".dev" / "ComfyUI"
    parser.add_argument("--ade", type=Path, metavar="PATH", help="a checkout of ComfyUI-AnimateDiff-Evolved")
    parser.add_argument(
        "--diffusers", type=Path, metavar="PATH", help="a folder with diffusers, if not installed"
    )
    parser.add_argument(
        "--comfyui", type=Path, default=Path(comfyui), help="default: COMFYUI_PATH, else the one in .dev"
    )
    parser.add_argument("--out", type=Path, default=DEV / "bench", help="default: .dev/bench")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_places(parser)
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="all that a card is asked for: with parity, waits, a profile, the bars",
    )
    parser.add_argument(
        "--small", action="store_true", help="with --gpu: tiny shapes, to try the path on a CPU"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where PyTorch has it")
    parser.add_argument(
        "--dtype",
        default="",
        help="fp32, fp16, bf16, fp8, auto or several; default: bf16 on cuda, fp32 on a CPU",
    )
    parser.add_argument(
        "--size", choices=("full", "small", "test"), help="default: full on cuda, small on a CPU"
    )
    parser.add_argument("--pixels", type=int, help="width and height; default: 512 on cuda, 128 on a CPU")
    parser.add_argument("--cells", default="", help="which, by their names; default: all")
    parser.add_argument("--only", default="", help="contenders: ours, ade, diffusers; default: all")
    parser.add_argument("--rounds", type=int, help="turns of each contender in a cell; default: 3 or 5")
    parser.add_argument("--steps", type=int, help="measured steps in a turn; default: 8 on cuda, 3 on a CPU")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="default: as many as the machine has"
    )
    parser.add_argument(
        "--one-at-a-time", action="store_true", help="a fresh process for each turn: slow, for little memory"
    )
    return parser.parse_args(arguments)


name_checkout()


def main() -> int:
    if sys.argv[1:] == ["--worker"]:
        from fast_animatediff.benchmarks.compare.worker import main as work

        return work()
    from fast_animatediff.benchmarks.compare.bench import run

    return run(parse(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
