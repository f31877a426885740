"""Packs what `benchmarks/run.py --gpu` needs on a machine with a card, PyTorch and no network, and says how to run it.

python3 dev.py bench --pack DIR [--ade PATH] [--diffusers PATH]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import run

LARGEST_MEGABYTES = 55
LARGEST_FILE = 300_000  # of the host's data: tokenizers and vocabularies, which no benchmark needs, are above
KINDS = {".py", ".json", ".yaml", ".toml"}
NOT_NEEDED = {
    "tests",
    "tests-unit",
    "web",
    "input",
    "output",
    "custom_nodes",
    "workflows",
    "blueprints",
}
# What PyTorch's containers lack of the host's requirements, by the names that pip knows.
WHEELS = ("comfy-aimdo", "torchsde", "trampoline", "einops", "safetensors", "psutil")
PURE_WHEELS = ("comfy-kitchen",)  # its compiled kernels (68 MB) are for models in 4 and 8 bits
COMMANDS = """#!/bin/sh
# The wheels go into a folder of their own, so that the machine stays as it is.
cd "$(dirname "$0")"
python3 -m pip install --quiet --no-index --no-deps --target packages wheels/*.whl
PYTHONPATH=packages${PYTHONPATH:+:$PYTHONPATH} exec python3 pack/benchmarks/run.py --gpu --comfyui host --out results \\
"""


def copy_sources(source: Path, target: Path) -> None:
    """Code and small data, without tests, pages and models."""
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        is_hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
        if is_hidden or relative.parts[0] in NOT_NEEDED or path.suffix not in KINDS or not path.is_file():
            continue
        if path.suffix == ".py" or path.stat().st_size <= LARGEST_FILE:
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / relative)


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pack", type=Path, required=True, metavar="DIR", help="a folder that is not there yet"
    )
    parser.add_argument(
        "--no-wheels", action="store_true", help="for a machine that has the host's requirements"
    )
    run.add_places(parser)
    options = parser.parse_args(arguments)
    target: Path = options.pack
    if target.exists():
        print(f"{target} exists already. Name a folder that does not.", file=sys.stderr)
        return 1
    peers = {"ade": options.ade, "diffusers": options.diffusers}
    sources = {"pack": run.ROOT, "host": options.comfyui, **{n: p for n, p in peers.items() if p}}
    for name, source in sources.items():
        # A folder of packages (site-packages) holds diffusers beside many others.
        part = Path("diffusers") if name == "diffusers" else Path()
        copy_sources(source / part, target / name / part)
    (target / "wheels").mkdir()
    if not options.no_wheels:
        pure = ["--platform", "any", "--implementation", "py", "--abi", "none"]
        for more in (WHEELS, [*pure, *PURE_WHEELS]):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            pip += ["--constraint", options.comfyui / "requirements.txt", "--dest", target / "wheels"]
            if subprocess.run([*pip, *more]).returncode:
                print("pip could not download the wheels; what it said stands above.", file=sys.stderr)
                return 1
    named = "".join(f" --{name} {name}" for name, peer in peers.items() if peer)
    (target / "run.sh").write_text(f'{COMMANDS}   {named} "$@"\n', encoding="utf-8")
    size = megabytes(target)
    print(f"{size:.0f} MB in {target}. Copy it to the machine, then: sh run.sh")
    if size > LARGEST_MEGABYTES:
        print(f"That is more than {LARGEST_MEGABYTES} MB.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
