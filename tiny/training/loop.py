"""The training loop of every stage: steps that can be stopped and continued without changing the result."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

EMA_WARM_UP = 10
SECONDS_BETWEEN_LINES = 15.0
LOG_EVERY = 20  # steps


@dataclass(frozen=True)
class Plan:
    """How a stage is trained.

    batch: pictures or clips per step. ema: decay of the averaged weights that are kept. other_rates: learning rates of
    parameters by the start of their names; their gradients are clipped separately, and their weights don't decay.
    """

    steps: int
    batch: int
    learning_rate: float
    warm_up: int = 100
    last_rate: float = 0.02  # share of the learning rate left at the end
    weight_decay: float = 0.01
    ema: float = 0.999
    clip: float = 0.5
    other_rates: dict[str, float] = field(default_factory=dict)


class Stage(Protocol):
    """What a stage brings to the loop. Batch n depends on the seed and n alone."""

    name: str
    plan: Plan

    def parameters(self) -> dict[str, Tensor]:
        """What is trained."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of one step, and numbers for the log."""

    def save_weights(self, folder: Path) -> None:
        """Writes what the next stages and `export` take; the trained parameters hold the averaged weights now."""

    def save_samples(self, folder: Path) -> None:
        """Writes pictures of what it has learnt."""


class Training:
    """A stage in training: weights, their average, the optimizer, the number of steps done."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.plan = stage, stage.plan
        self.folder = folder
        self.checkpoint = folder / f"{stage.name}.training.pt"
        self.log = folder / f"{stage.name}.jsonl"
        self.parameters = stage.parameters()
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        groups = self._groups()
        matrices, vectors, *others = [group["params"] for group in groups]
        self._clipped = [matrices + vectors, *others]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.plan.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=self.plan.weight_decay,
            fused=True,
        )
        self.step = 0

    def _groups(self) -> list[dict[str, Any]]:
        """Matrices, vectors and those of other_rates, with the highest learning rate of each."""
        plan, left = self.plan, dict(self.parameters)
        others = []
        for start, rate in plan.other_rates.items():
            names = [name for name in left if name.startswith(start)]
            if not names:
                raise ValueError(
                    f"Stage {self.stage.name} has no parameters that begin with '{start}': see its other_rates."
                )
            others.append({"params": [left.pop(name) for name in names], "rate": rate, "weight_decay": 0.0})
        matrices = [p for p in left.values() if p.ndim > 1]
        vectors = [p for p in left.values() if p.ndim <= 1]
        return [
            {"params": matrices, "rate": plan.learning_rate},
            {"params": vectors, "rate": plan.learning_rate, "weight_decay": 0.0},
            *others,
        ]

    def _part_of_rate(self) -> float:
        """Linear warm-up, then half a cosine."""
        plan = self.plan
        done = min(max(self.step - plan.warm_up, 0) / max(plan.steps - plan.warm_up, 1), 1.0)
        cosine = plan.last_rate + (1 - plan.last_rate) * 0.5 * (1 + math.cos(math.pi * done))
        return min((self.step + 1) / plan.warm_up, 1.0) * cosine

    def advance(self) -> dict[str, float]:
        """One step. Errors: FloatingPointError where the loss is not finite, before the weights are touched."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * self._part_of_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss, numbers = self.stage.loss(self.step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{self.stage.name}: the loss of step {self.step} is {loss.item()}.")
        loss.backward()
        norms = [torch.nn.utils.clip_grad_norm_(part, self.plan.clip) for part in self._clipped]
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {"loss": loss.item(), "gradient": norms[0].item(), **numbers}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.plan.ema, self.step / (EMA_WARM_UP + self.step))
        kept, current = list(self.average.values()), [p.detach() for p in self.parameters.values()]
        torch._foreach_lerp_(kept, current, 1 - decay)

    # ---- stopping and continuing

    def save(self) -> None:
        """Atomically, so that a run interrupted while saving still has the previous checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        state = {
            "plan": asdict(self.plan),
            "step": self.step,
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def resume(self) -> bool:
        """Loads the last checkpoint; False if there is none. Errors: ValueError where its plan differs."""
        if not self.checkpoint.is_file():
            return False
        saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if saved["plan"] != asdict(self.plan):
            raise ValueError(
                f"{self.checkpoint.name} was trained by another plan, {saved['plan']}; the plan is now {asdict(self.plan)}. "
                "Delete it to start this stage again, or choose another folder with --out."
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(saved["parameters"][name])
                self.average[name].copy_(saved["average"][name])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]
        return True

    def finish(self) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.average[name])
        self.stage.save_weights(self.folder)


def train(stage: Stage, folder: Path, minutes: float = math.inf, save_minutes: float = 3.0) -> bool:
    """Runs a stage from its last checkpoint. Returns True when it is done, False if the time ran out first."""
    training = Training(stage, folder)
    folder.mkdir(parents=True, exist_ok=True)
    resumed = training.resume()
    print(f"{stage.name}: {'from step ' + str(training.step) if resumed else 'from the start'}", flush=True)
    started = saved_at = time.monotonic()
    progress = Progress(training)
    try:
        while training.step < training.plan.steps:
            progress.add(training.advance())
            now = time.monotonic()
            if now - started > 60 * minutes:
                training.save()
                return False
            if now - saved_at > 60 * save_minutes:
                training.save()
                saved_at = now
    except KeyboardInterrupt:
        training.save()
        raise
    training.save()
    training.finish()
    stage.save_samples(folder)
    return True


class Progress:
    """Numbers of the last steps, as lines of a log file and a line on the console."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._live = sys.stdout.isatty()
        self._sums: dict[str, list[float]] = defaultdict(list)
        self._since = self._shown = time.monotonic()

    def add(self, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._sums[name].append(value)
        plan, step = self._training.plan, self._training.step
        if step % LOG_EVERY and step != plan.steps:
            return
        now = time.monotonic()
        steps = len(self._sums["loss"])
        means = {name: sum(values) / len(values) for name, values in self._sums.items()}
        line = {"step": step, **means, "samples_per_second": plan.batch * steps / (now - self._since)}
        with self._training.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({k: float(f"{v:.5g}") for k, v in line.items()}) + "\n")
        self._sums.clear()
        self._since = now
        self._show(line, now)

    def _show(self, line: dict[str, float], now: float) -> None:
        plan, done = self._training.plan, line["step"] == self._training.plan.steps
        if not (self._live or done or now > self._shown + SECONDS_BETWEEN_LINES):
            return
        self._shown = now
        left = (plan.steps - line["step"]) * plan.batch / line["samples_per_second"] / 60
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in line.items() if name != "step")
        text = (
            f"  {self._training.stage.name} {int(line['step'])}/{plan.steps}  {numbers}  {left:.0f} min left"
        )
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:<{width}}", end="\n" if done else "", flush=True)
        else:
            print(text, flush=True)
