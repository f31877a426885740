"""What Triton makes of the fused kernels for cards that are not here: registers, spills, shared memory.

    python3 dev.py bench kernels

Each program is compiled, with the assembler that Triton brings, and not run. Written to .dev/bench/kernels-DATE/.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import run

# Compute capability, and bytes of shared memory that a program may have there.
CARDS = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024}
CHANNELS = (320, 640, 1280)  # of SD1.5's levels
HEADS = 8
TYPES = ("fp16", "bf16")


@dataclass(frozen=True)
class Program:
    kernel: str
    card: int
    type: str
    channels: int
    frames: int
    registers: int
    spilled: int
    shared: int
    most_shared: int


def programs(card: int, kind: str) -> Iterator[Program]:
    """Every program that SD1.5's motion layers start."""
    from fast_animatediff.motion_modules import triton_kernels as kernels

    flags = {"ADDS": True, "PLACES": True, "SHIFTS": True}
    for channels in CHANNELS:
        blocks = kernels.norm_blocks(channels) | flags
        yield build("norm", kernels.norm_kernel, blocks, card, kind, channels)
        for frames in (16, 32):
            blocks = kernels.attention_blocks(HEADS, channels // HEADS, frames)
            yield build("attention", kernels.attention_kernel, blocks, card, kind, channels, frames)
        yield build("geglu", kernels.geglu_kernel, {"BLOCK": kernels.GEGLU_BLOCK}, card, kind, channels)


def build(
    name: str, kernel: Any, constants: dict[str, Any], card: int, kind: str, channels: int, frames: int = 0
) -> Program:
    """Compiles a kernel with its constants."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    numbers = {"eps": "fp32", "scale": "fp32"} | dict.fromkeys(
        ("rows", "frames", "channels", "width", "sequences"), "i32"
    )
    signature = {
        argument: "constexpr" if argument in constants else numbers.get(argument, f"*{kind}")
        for argument in kernel.arg_names
    }
    source = ASTSource(kernel, signature, constexprs=constants)
    built = triton.compile(source, target=GPUTarget("cuda", card, 32))
    text = built.asm["ptx"]
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(text)
        target = re.search(r"\.target (\w+)", text)[1]
        command = [assembler, "-v", "--gpu-name", target, path, "-o", path.with_suffix(".cubin")]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = int(re.search(r"Used (\d+) registers", report)[1])
    spilled = int(re.search(r"(\d+) bytes spill stores", report)[1])
    shared = built.metadata.shared
    return Program(name, card, kind, channels, frames, registers, spilled, shared, CARDS[card])


def table(found: list[Program]) -> str:
    lines = [
        "| kernel | channels | frames | type | card | registers | bytes spilled | shared memory | of at most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for p in found:
        sizes = f"{p.shared / 1024:.0f} KiB | {p.most_shared // 1024} KiB"
        lines.append(
            f"| {p.kernel} | {p.channels} | {p.frames or '-'} | {p.type} | sm_{p.card} | {p.registers} | {p.spilled} | {sizes} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run.add_places(parser)
    options = parser.parse_args(arguments)
    found = [program for card in CARDS for kind in TYPES for program in programs(card, kind)]
    folder = options.out / f"kernels-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(
        json.dumps([asdict(p) for p in found], indent=1) + "\n", encoding="utf-8"
    )
    (folder / "table.md").write_text(table(found), encoding="utf-8")
    print(table(found) + f"\nWritten to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
