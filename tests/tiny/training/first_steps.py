"""A training in which every stage has taken a few steps, for the tests of what comes after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fast_animatediff.tiny.training import cameras, edits, train
from fast_animatediff.tiny.training.loop import Training

CPU = torch.device("cpu")
KIND_OF_STEP: dict[str, Callable[[int], object]] = {
    "cameras": cameras.kind_of_step,
    "edits": edits.kind_of_step,
}


@dataclass(frozen=True)
class Trained:
    """A training of which every stage took a few steps. changed: by stage, the share of its weights that they changed."""

    folder: Path
    changed: dict[str, float]


def take_first_steps(folder: Path) -> Trained:
    """Trains all stages in their order, a few steps each: each needs what the ones before it wrote."""
    changed = {}
    for name, plan in train.PLANS.items():
        steps = a_step_of_each_kind(name)
        batch = 8 if name in ("images", "subjects", "places", "edges") else 2
        plan = replace(plan, steps=max(steps) + 1, batch=batch, warm_up=1)
        stage = train.make_stage(name, plan, 0, 64, CPU, folder)
        before = {key: value.detach().clone() for key, value in stage.parameters().items()}
        training = Training(stage, folder)
        for step in steps:
            training.step = step
            training.advance()
        differ = [not torch.equal(value, before[key]) for key, value in stage.parameters().items()]
        changed[name] = sum(differ) / len(differ)
        training.finish()
    return Trained(folder, changed)


def a_step_of_each_kind(stage: str) -> list[int]:
    """Step 0, or, where each LoRA of a stage has steps of its own, the first step of each kind.

    The first step of `edges` changes its zero convolutions alone, the second what is in front of them.
    """
    if stage == "edges":
        return [0, 1]
    if stage not in KIND_OF_STEP:
        return [0]
    first: dict[object, int] = {}
    for step in range(48):
        kind = KIND_OF_STEP[stage](step)
        first.setdefault(getattr(kind, "axis", type(kind)), step)
    return sorted(first.values())
