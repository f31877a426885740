"""Trains the tiny family: `run_in_pack.py tiny.training.train STAGE`, or `all`; run again, it continues where it stopped.

Each stage starts from what the one before it wrote: vae, images, subjects, places, motion, cameras, edits; then rolls and
turbo, both from edits, and edges, from places; then export, which writes the files that users have. From those, `restore`
writes what edits, rolls, edges or turbo need to be trained without the stages before. tiny/README.md has the plan and the measurements.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    # Before torch: how long a thread spins for its next work. Spinning for ever starves other programs; going to
    # sleep at once made training six times slower beside them (29 pictures a second against 175).
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import torch

from ...dev_server.host import ROOT, use_host
from .loop import Plan, Stage, train

SIZE = 64  # pixels; latents of 8x8

# What the stages that train motion LoRAs have in common.
LORA_PLAN = partial(Plan, batch=4, weight_decay=0.001, ema=0.995, clip=0.3)

# Steps that two processor cores do in hours; a GPU may take more of them: --longer.
PLANS = {
    "vae": Plan(steps=3000, batch=16, learning_rate=1e-3, ema=0.998),
    "images": Plan(steps=6500, batch=64, learning_rate=1e-3, warm_up=300),
    "subjects": Plan(steps=5500, batch=64, learning_rate=2e-3),
    "places": Plan(
        steps=1550, batch=64, learning_rate=1e-3, warm_up=30, ema=0.99, other_rates={"readouts.": 5e-3}
    ),
    "motion": Plan(steps=8000, batch=4, learning_rate=1e-3, warm_up=200, weight_decay=0.001, clip=0.3),
    "cameras": LORA_PLAN(steps=9000, learning_rate=7e-4, other_rates={"lora.": 5e-3, "readouts.": 3e-3}),
    "edits": LORA_PLAN(steps=5000, learning_rate=5e-4, other_rates={"lora.": 2e-3, "readouts.": 3e-3}),
    "rolls": LORA_PLAN(steps=800, learning_rate=2e-3, warm_up=30, other_rates={"readouts.": 3e-3}),
    "edges": Plan(steps=7200, batch=16, learning_rate=1e-3, warm_up=50, weight_decay=0.0, ema=0.995),
    "turbo": Plan(steps=1500, batch=8, learning_rate=3e-4, warm_up=50, weight_decay=0.0),
}

# What each stage starts from.
STANDS_ON = dict(zip([*PLANS][1:], PLANS, strict=False)) | {"edges": "places", "turbo": "edits"}


def make_stage(name: str, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> Stage:
    """Errors: FileNotFoundError naming the stage before, where it was not trained yet."""
    where = (plan, seed, size, device)
    # Imported only now: they bring the host.
    from .cameras import CameraStage
    from .edges import EdgeStage
    from .edits import EditStage
    from .images import ImageStage, PlaceStage, SubjectStage
    from .motion import MotionStage
    from .rolls import RollStage
    from .turbo import TurboStage
    from .vae import VaeStage

    try:
        if name == "vae":
            return VaeStage(*where)
        stages = {
            "images": ImageStage,
            "subjects": SubjectStage,
            "places": PlaceStage,
            "motion": MotionStage,
            "cameras": CameraStage,
            "edits": EditStage,
            "rolls": RollStage,
            "edges": EdgeStage,
            "turbo": TurboStage,
        }
        return stages[name](*where, folder)
    except FileNotFoundError as error:
        missing = Path(str(error.filename or error)).stem.split("-")[0]  # a LoRA's axis follows its stage
        raise FileNotFoundError(
            f"Stage {name} needs stage {missing} in {folder}: train that first."
        ) from error


def check_folder(folder: Path, seed: int, size: int) -> None:
    """Stages of one folder belong together. Errors: ValueError where it holds another training."""
    file, asked = folder / "training.json", {"seed": seed, "size": size}
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asked), encoding="utf-8")
    found = json.loads(file.read_text(encoding="utf-8"))
    if found != asked:
        raise ValueError(
            f"{folder.name} holds a training with {found}, but {asked} was asked for. Choose another folder with --out."
        )


def check_order(folder: Path, stage: str) -> None:
    """Errors: ValueError where a stage that others start from is not done, or was trained after one of them."""
    stages = [stage] if stage in PLANS else [*PLANS]
    while stages[0] in STANDS_ON:
        stages.insert(0, STANDS_ON[stages[0]])
    done = {name: folder / f"{name}.done" for name in stages}
    for name in stages:
        if name != stage and (folder / f"{name}.training.pt").is_file() and not done[name].is_file():
            raise ValueError(f"Stage {name} in {folder.name} is not done: finish it before {stage}.")
    if stage in done and not done[stage].is_file():
        del done[stage]  # it is about to be trained
    # Those that were restored, not trained, count as the oldest.
    trained_at = {name: file.stat().st_mtime if file.is_file() else -math.inf for name, file in done.items()}
    for after in trained_at:
        before = STANDS_ON.get(after)
        if before in trained_at and trained_at[after] < trained_at[before]:
            raise ValueError(
                f"Stage {after} in {folder.name} is older than {before}, which it starts from: delete {after}.done and "
                f"{after}.training.pt there, if they exist, and train it again."
            )


def run_stage(name: str, options: argparse.Namespace) -> bool:
    """Trains one stage, or writes the files; True when it is done."""
    if name == "restore":
        from .restore import restore

        for path in restore(options.out, options.seed, options.size, torch.device(options.device)):
            print(f"  {path.name}")
        return True
    check_order(options.out, name)
    if name == "export":
        from .export import export

        for path in export(options.out, options.seed):
            print(f"  {path.relative_to(ROOT)}  {path.stat().st_size / 1e6:.2f} MB")
        return True
    plan = PLANS[name]
    if options.longer != 1:
        plan = Plan(**(vars(plan) | {"steps": round(plan.steps * options.longer)}))
    done = options.out / f"{name}.done"
    if done.is_file():
        print(f"{name}: already done")
        return True
    stage = make_stage(name, plan, options.seed, options.size, torch.device(options.device), options.out)
    if not train(stage, options.out, options.minutes):
        print(f"{name}: out of time; run again to continue")
        return False
    done.touch()
    return True


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=[*PLANS, "export", "restore", "all"])
    parser.add_argument("--out", type=Path, default=ROOT / ".dev" / "training", metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--size", type=int, default=SIZE, help="side of the pictures, in pixels (a multiple of 64)"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after this time, to continue later"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--longer", type=float, default=1.0, metavar="FACTOR", help="multiply the steps of the plan by this"
    )
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    stages = [*PLANS, "export"] if options.stage == "all" else [options.stage]
    use_host()
    try:
        check_folder(options.out, options.seed, options.size)
        return 0 if all(run_stage(name, options) for name in stages) else 3
    except KeyboardInterrupt:
        print("\nStopped; run again to continue.")
        return 130
    except (OSError, ValueError, FloatingPointError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
