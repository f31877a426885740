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
    from fast_animatediff.motion_modules import triton_products as products

    # The first norm of a block has nothing to add, the last no positions.
    first = {"ADDS": False, "PLACES": True, "SHIFTS": False, "y": None, "shift": None}
    middle = {"ADDS": True, "PLACES": True, "SHIFTS": False, "shift": None}
    last = {"ADDS": True, "PLACES": False, "SHIFTS": True, "positions": None}
    for channels in CHANNELS:
        width = channels // HEADS
        made = Compiler(card, kind, channels)
        for name, flags in {"first norm": first, "middle norm": middle, "last norm": last}.items():
            yield made(name, kernels.norm_kernel, kernels.norm_blocks(channels) | flags)
        yield made("geglu", kernels.geglu_kernel, {"BLOCK": kernels.GEGLU_BLOCK})
        blocks = products.geglu_blocks(channels)
        yield made("geglu product", products.geglu_product_kernel, blocks, products.GEGLU_OPTIONS)
        for frames in (16, 32):
            made = Compiler(card, kind, channels, frames)
            blocks = kernels.attention_blocks(HEADS, width, frames)
            yield made("attention", kernels.attention_kernel, blocks)
            blocks |= {"DEPTH": products.DEPTH}
            options = products.attention_options(width)
            for name, flags in {
                "first norm, attention": {"ADDS": False, "y": None},
                "second norm, attention": {"ADDS": True},
            }.items():
                yield made(name, products.normed_attention_kernel, blocks | flags, options)


@dataclass(frozen=True)
class Compiler:
    card: int
    type: str
    channels: int
    frames: int = 0

    def __call__(
        self, name: str, kernel: Any, constants: dict[str, Any], options: dict[str, int] | None = None
    ) -> Program:
        """Compiles a kernel as it is when it is called: tensors and widths are multiples of 16 bytes and elements."""
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        numbers = {"eps": "fp32", "scale": "fp32"} | dict.fromkeys(
            ("rows", "frames", "channels", "width", "sequences"), "i32"
        )
        signature = {
            argument: "constexpr" if argument in constants else numbers.get(argument, f"*{self.type}")
            for argument in kernel.arg_names
        }
        aligned = {
            (place,): [["tt.divisibility", 16]]
            for place, (argument, kind) in enumerate(signature.items())
            if kind.startswith("*") or argument in ("channels", "width")
        }
        source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
        built = triton.compile(source, target=GPUTarget("cuda", self.card, 32), options=options)
        registers, spilled = assembled(built.asm["ptx"])
        sizes = registers, spilled, built.metadata.shared, CARDS[self.card]
        return Program(name, self.card, self.type, self.channels, self.frames, *sizes)


def assembled(text: str) -> tuple[int, int]:
    """Registers of a thread, and the bytes that it spills, as Triton's own assembler reports them."""
    import triton

    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    target = re.search(r"\.target (\w+)", text)[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(text)
        command = [assembler, "-v", "--gpu-name", target, path, "-o", path.with_suffix(".cubin")]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spilled = (
        re.search(pattern, report)[1] for pattern in (r"Used (\d+) reg", r"(\d+) bytes spill s")
    )
    return int(registers), int(spilled)


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
    parser.add_argument("--cards", default="80,86,89,90", help="compute capabilities; default: these four")
    options = parser.parse_args(arguments)
    cards = [int(card) for card in options.cards.split(",")]
    found = [program for card in cards for kind in TYPES for program in programs(card, kind)]
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
