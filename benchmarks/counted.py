"""What a sampler step does on a GPU, counted on tensors without values: no card is needed, nothing is timed.

    python3 dev.py bench counted [--ade PATH] [--size full] [--free GIB]

Kernels, bytes, memory, waits for the card and copies to it, of this pack and AnimateDiff-Evolved, each through its own real
sampling code. Not of diffusers: its scheduler turns tensors into numpy arrays, which these can't be. Written to
.dev/bench/counted-DATE/; what the columns mean: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import run
import torch

from fast_animatediff.benchmarks.compare import fake_cuda, host, jobs, weights
from fast_animatediff.benchmarks.compare.contender import Setting
from fast_animatediff.benchmarks.compare.fused import with_fused_kernels
from fast_animatediff.benchmarks.compare.waits import WaitCounter

# Datasheets: dense operations a second in fp16 with sums in fp32, bytes a second. LAUNCH: seconds that PyTorch and
# Python need for one operation at best; the estimate is the larger of the kernels' sum and the launches'.
CARDS = {"H100": (989e12, 3.35e12), "RTX 4090": (165e12, 1.01e12), "RTX 3090": (71e12, 0.936e12)}
LAUNCH = 5e-6
TITLES = {"ours": "Fast AnimateDiff", "ade": "AnimateDiff-Evolved"}
STEPS = 3  # the second is counted, and nothing runs after it


@dataclass(frozen=True)
class Case:
    """What is sampled. module: the motion module's file. settings: of MotionSettings; until: cfg_until. fused: of `fused_blocks`."""

    name: str
    job: jobs.Job
    module: str = host.MOTION_MODULE
    settings: tuple[tuple[str, float], ...] = ()
    until: float = 1.0
    lora: bool = False
    windowed: bool = False
    fused: str = ""


def sizes(pixels: int) -> list[Case]:
    """What all contenders are asked for."""
    clip = jobs.Job(width=pixels, height=pixels, steps=STEPS)
    large = replace(clip, width=pixels * 3 // 2, height=pixels * 3 // 2)
    cases = (
        ("16 frames", clip),
        ("32 frames", replace(clip, frames=32)),
        ("16 frames, 2.25 times the area", large),
    )
    return [Case(name, job) for name, job in cases]


def options(pixels: int, frames: int) -> list[Case]:
    """Every option of this pack that acts within a step. frames: of the clips in windows."""
    clip = jobs.Job(width=pixels, height=pixels, steps=STEPS)
    long_clip = replace(clip, frames=frames)
    return [
        Case("defaults", clip),
        Case("cfg 1", replace(clip, cfg=1.0)),
        Case("cfg_until 0.5", clip, until=0.5),
        Case(
            "start_percent 0.1, end_percent 0.9",
            clip,
            settings=(("start_percent", 0.1), ("end_percent", 0.9)),
        ),
        Case("strength 0.8, motion_scale 1.2", clip, settings=(("strength", 0.8), ("motion_scale", 1.2))),
        Case("motion LoRA", clip, lora=True),
        Case(f"{frames} frames in windows", long_clip, windowed=True),
        Case(f"{frames} frames, motion_layers_only", replace(long_clip, layer_windows=True), windowed=True),
        Case("v1 module", clip, module="mm_sd_v14.safetensors"),
        Case("AnimateLCM module", clip, module="AnimateLCM_sd15_t2v.safetensors"),
        Case("fused passes", clip, fused="fused_passes"),
        Case("fused products", clip, fused="fused_products"),
    ]


def write_files(folder: Path, size: jobs.Size) -> None:
    """The checkpoint and a module of each family, as headers."""
    folder.mkdir(parents=True, exist_ok=True)
    fake_cuda.write_header(folder / host.CHECKPOINT, weights.checkpoint_shapes(size), {})
    motion, tables = weights.motion_shapes(size), weights.position_tables(size)
    v2 = {**motion, **{key: table.shape for key, table in tables.items()}}
    fake_cuda.write_header(folder / host.MOTION_MODULE, v2, {})
    fake_cuda.write_header(folder / "AnimateLCM_sd15_t2v.safetensors", motion, {})
    of_v1 = {
        key: torch.Size((1, 24, shape[2])) if key.endswith(".pe") else shape for key, shape in v2.items()
    }
    of_v1 = {key: shape for key, shape in of_v1.items() if not key.startswith("mid_block")}
    fake_cuda.write_header(folder / "mm_sd_v14.safetensors", of_v1, {})
    lora = {}
    for key, (rows, columns) in (
        (k, s) for k, s in motion.items() if ".attention_blocks." in k and len(s) == 2
    ):
        layer = key.removesuffix(".weight").replace("to_out.0", "to_out")
        place, projection = layer.rsplit(".", 1)
        lora[f"{place}.processor.{projection}_lora.up.weight"] = torch.Size((rows, 8))
        lora[f"{place}.processor.{projection}_lora.down.weight"] = torch.Size((8, columns))
    fake_cuda.write_header(folder / "lora.safetensors", lora, {})


class Counted(Exception):  # noqa: N818
    """The step is counted; the rest of the run is not needed."""


class StepCounter:
    """Counts between the starts of two steps."""

    def __init__(self) -> None:
        self.counter = WaitCounter()
        self.starts: list[tuple[Any, Counter[str], Counter[str], int, int]] = []

    def begin_step(self) -> None:
        c = self.counter
        self.starts.append((c.total.copy(), c.waits.copy(), c.uploads.copy(), c.live, len(c.sizes)))
        if len(self.starts) == STEPS - 1:
            c.peak = c.live
        if len(self.starts) == STEPS:
            self.peak = c.peak
            raise Counted

    def result(self) -> dict[str, Any]:
        (before, waits, uploads, live, first), (after, waits_now, uploads_now, _, last) = self.starts[
            STEPS - 2 :
        ]
        step = after.minus(before)
        estimates = {}
        for card, (rate, bandwidth) in CARDS.items():
            kernels = sum(
                max(flops / rate, size / bandwidth) for size, flops in self.counter.sizes[first:last]
            )
            estimates[card] = max(kernels, step.kernels * LAUNCH)
        return step.as_dict() | {
            "waits": dict(waits_now - waits), "uploads": dict(uploads_now - uploads),
            "peak": self.peak - live, "estimates": estimates,
        }  # fmt: skip


def count(contender: Any, sample: Any) -> dict[str, Any]:
    """The counts of one step of sample(), from the guider's call to its next."""
    from comfy.patcher_extension import WrappersMP

    steps = StepCounter()

    def begin(executor: Any, *args: Any, **kwargs: Any) -> Any:
        steps.begin_step()
        return executor(*args, **kwargs)

    for patcher in {
        id(m): m for m in (contender.model, getattr(contender, "windowed", contender.model))
    }.values():
        patcher.remove_wrappers_with_key(WrappersMP.PREDICT_NOISE, "counted")
        patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "counted", begin)
    with torch.no_grad(), steps.counter, suppress(Counted):
        sample()
    return steps.result()


def sample_ours(contender: Any, case: Case, folder: Path) -> Any:
    """A function that samples with the case's options; the files are read now."""
    from fast_animatediff.motion_modules.adapter import apply_motion_module
    from fast_animatediff.motion_modules.checkpoint import load_motion_module
    from fast_animatediff.motion_modules.layer_windows import make_windows
    from fast_animatediff.motion_modules.lora import load_motion_lora
    from fast_animatediff.motion_modules.motion_settings import MotionSettings
    from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
    from fast_animatediff.motion_modules.sampling import sample
    from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

    module = load_motion_module(str(folder / case.module))
    loras = (load_motion_lora(str(folder / "lora.safetensors"), 1.0),) if case.lora else ()
    model = apply_motion_module(contender.base, module, MotionSettings(loras=loras, **dict(case.settings)))
    if case.fused:
        model = with_fused_kernels(model, case.fused)
    if case.windowed:
        windows = make_windows(WindowSettings(16, 4, motion_layers_only=case.job.layer_windows))
        model = set_windows(model, windows)
    contender.model, job = model, case.job
    # Without the lcm sampler, whose noise comes from a generator of the card's own.
    mode = "standard"
    settings = SamplerSettings(job.seed, job.steps, job.cfg, job.strength, mode, cfg_until=case.until)
    start = {"samples": host.empty_latent(job)}
    return lambda: sample(contender.model, *host.host_conditions(), start, settings)


def work(arguments: argparse.Namespace) -> dict[str, Any]:
    """Of one contender in one precision; this process then belongs to the fake card."""
    fake_cuda.use_fake_cuda(free=arguments.free, total=max(80.0, arguments.free))
    size = jobs.SIZES[arguments.size]
    folder = arguments.out / f"headers-{size.name}"
    peer = arguments.ade if arguments.contender == "ade" else None
    setting = Setting(arguments.contender, folder, arguments.comfyui, size, "cuda", arguments.dtype, 1, peer)
    from fast_animatediff.benchmarks.compare.worker import contender_class

    host.use_host(setting.host, "cuda", setting.dtype)
    write_files(folder, size)
    found: dict[str, Any] = {}
    with fake_cuda.FakeCuda(), torch.no_grad():
        with WaitCounter():  # answers what is read while loading
            contender = contender_class(setting)(setting)
        for case in sizes(arguments.pixels) if arguments.cases in ("sizes", "all") else []:
            found[case.name] = count(contender, lambda case=case: contender.sample(case.job))
        wanted = options(arguments.pixels, arguments.frames) if arguments.contender == "ours" else []
        for case in wanted if arguments.cases != "sizes" else []:
            if arguments.cases in ("options", "all") or case.name in arguments.cases.split(";"):
                with WaitCounter():
                    sample = sample_ours(contender, case, folder)
                found[case.name] = count(contender, sample)
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    cards = " | ".join(f"{card}, estimated" for card in CARDS)
    lines = [
        f"| one step | kernels | bytes | TFLOP | peak of activations | waits | copies to the card | {cards} |",
        "|---|---|---|---|---|---|---|" + "---|" * len(CARDS),
    ]
    for name, cases in results.items():
        for case, step in cases.items():
            numbers = (
                f"{step['kernels']} | {step['bytes'] / 1e9:.3g} GB | {sum(step['flops'].values()) / 1e12:.3g} | "
                f"{step['peak'] / 2**30:.2f} GiB | {sum(step['waits'].values())} | {sum(step['uploads'].values())}"
            )
            estimates = " | ".join(f"{seconds * 1000:.0f} ms" for seconds in step["estimates"].values())
            lines.append(f"| {name}: {case} | {numbers} | {estimates} |")
    for kind in ("waits", "uploads"):
        for name, cases in results.items():
            asked = sorted({line for step in cases.values() for line in step[kind]})
            lines += [f"\n{name}, {kind}: {', '.join(asked)}"] if asked else []
    return "\n".join(lines) + "\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run.add_places(parser)
    parser.add_argument(
        "--size", choices=tuple(jobs.SIZES), default="full", help="default: full, the real SD1.5"
    )
    parser.add_argument("--pixels", type=int, default=512, help="width and height; default: 512")
    parser.add_argument("--frames", type=int, default=64, help="of the clips in windows; default: 64")
    parser.add_argument("--dtype", default="fp16,bf16", help="one or several; the peers run in the first")
    parser.add_argument(
        "--free", type=float, default=78.0, metavar="GIB", help="memory that is free; default: 78"
    )
    parser.add_argument("--only", default="ours,ade", help="contenders; default: both")
    parser.add_argument("--cases", default="all", help="sizes, options, all, or names of options joined by ;")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options_given = parse(arguments)
    if options_given.contender:
        answers = sys.stdout
        sys.stdout = sys.stderr
        gc.disable()  # no count depends on when garbage is collected, which takes a tenth of the time
        print(json.dumps(work(options_given)), file=answers)
        gc.freeze()  # or the end of the process would look through it all
        return 0
    folder = options_given.out / f"counted-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    results: dict[str, dict[str, Any]] = {}
    for dtype in options_given.dtype.split(","):
        for contender in options_given.only.split(","):
            is_first = dtype == options_given.dtype.split(",")[0]
            if contender != "ours" and not is_first or contender == "ade" and options_given.ade is None:
                continue
            print(f"{TITLES[contender]} in {dtype}", flush=True)
            command = [sys.executable, __file__, *arguments, "--contender", contender, "--dtype", dtype]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(done.stderr[-3000:], file=sys.stderr)
                return 1
            results[f"{TITLES[contender]}, {dtype}"] = json.loads(done.stdout)
            (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table(results), encoding="utf-8")
    print(table(results) + f"\nWritten to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
