"""A directed clip in one pack, and the same clip in both: the difference, seconds in turns, memory, a row of the table."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from . import directions, host, jobs
from .counting import OperationCounter
from .directions import Case

SAME = 1e-4
Weighted = Callable[[list, list[float]], list]
HEAD = """| what | frames | difference | | seconds, theirs over ours | noise | memory, theirs over ours |
|---|---|---|---|---|---|---|"""


class Clip:
    """A case in one pack, to be sampled as often as wanted."""

    def __init__(
        self, model: Any, prompts: list, case: Case, job: jobs.Job, control: Any, weighted: Weighted
    ) -> None:
        """weighted: gives the conditions their control's strength for each frame."""
        self.case, self.job, self.model = case, job, model
        self.conditions = [prompts, host.host_conditions()[1]]
        if case.control:
            hints = torch.rand(case.frames, 3, 2, 2, generator=torch.Generator().manual_seed(5))
            # Random weights hardly tell pictures apart; so loud that the hints of other frames make a difference of 0.2.
            hints = 100 * torch.nn.functional.interpolate(hints, (job.height, job.width))
            held = {"control": control.copy().set_cond_hint(hints), "control_apply_to_uncond": False}
            self.conditions = [[[rows, options | held] for rows, options in c] for c in self.conditions]
        if case.control_strength:
            self.conditions = weighted(self.conditions, directions.ramp(case, 1.0, 0.0))

    def sample(self, steps: int | None = None) -> Tensor:
        """Latents, by the functions of core's SamplerCustom, into which both packs hook."""
        import comfy.sample
        import comfy.samplers

        euler, sigmas = comfy.samplers.sampler_object("euler"), jobs.trailing_sigmas(steps or self.job.steps)
        with torch.no_grad(), attention_as_in(self.case):
            return comfy.sample.sample_custom(
                self.model, jobs.noise(self.job), self.job.cfg, euler, sigmas, *self.conditions,
                host.empty_latent(self.job), seed=self.job.seed, disable_pbar=True,
            )  # fmt: skip

    def seconds(self) -> float:
        """Of the processor: what else runs on the machine counts less."""
        start = time.process_time()
        self.sample()
        return time.process_time() - start

    def peak(self) -> int:
        """The most bytes alive at once of all that one step makes."""
        with OperationCounter() as counter:
            self.sample(1)
        return counter.peak


def attention_as_in(case: Case) -> AbstractContextManager:
    """Our attention, with a frame's scale on its keys where the case says so."""
    from fast_animatediff.motion_modules import temporal

    plain = temporal.attend

    def scale_keys(q: Tensor, k: Tensor, v: Tensor, scale: Any) -> Tensor:
        return plain(q, k * scale.view(-1, 1), v, 1.0)

    return patch.object(temporal, "attend", scale_keys) if case.motion_scale == "keys" else nullcontext()


def measure(case: Case, ours: Clip, theirs: Clip | None, rounds: int) -> dict[str, Any]:
    """The difference first; then seconds in turns ours, theirs, ours, so that ours against ours tells the noise."""
    found: dict[str, Any] = {"case": asdict(case), "ours": {"seconds": []}, "theirs": None}
    latents = ours.sample()
    if not latents.isfinite().all():
        raise ArithmeticError(f"{case.name}: our latents are not finite.")
    try:
        expected = theirs.sample() if theirs else None
    except (ValueError, RuntimeError) as error:
        found["refused"], theirs = " ".join(str(error).split()), None
    if theirs:
        found["difference"] = largest_difference(latents, expected)
        found["theirs"] = {"seconds": [], "peak_bytes": theirs.peak()}
    found["ours"]["peak_bytes"] = ours.peak()
    for _ in range(rounds):
        found["ours"]["seconds"].append(ours.seconds())
        if theirs:
            found["theirs"]["seconds"].append(theirs.seconds())
            found["ours"]["seconds"].append(ours.seconds())
    return found


def largest_difference(value: Tensor, reference: Tensor) -> float:
    """Of any element, over the root mean square of the reference."""
    reference = reference.double()
    return ((value.double() - reference).abs().max() / reference.square().mean().sqrt()).item()


def verdict(found: dict[str, Any]) -> str:
    """Same, why not, or that nobody expected it."""
    if found["theirs"] is None:
        return f"refused there: {found['refused']}" if "refused" in found else "not compared"
    why = found["case"]["why"]
    if is_expected(found):
        return why or "same"
    return "SAME THOUGH A DIFFERENCE WAS EXPECTED" if why else "DIFFERENT, UNEXPLAINED"


def is_expected(found: dict[str, Any]) -> bool:
    return found["theirs"] is None or (found["difference"] > SAME) == bool(found["case"]["why"])


def row(found: dict[str, Any]) -> str:
    case, ours, theirs = found["case"], found["ours"], found["theirs"]
    if theirs is None:
        numbers = (
            f"{statistics.median(ours['seconds']):.2f} s here | | {ours['peak_bytes'] / 2**20:.0f} MiB here"
        )
        return f"| {case['name']} | {case['frames']} | | {verdict(found)} | {numbers} |"
    before, after = ours["seconds"][::2], ours["seconds"][1::2]
    turns = list(zip(before, theirs["seconds"], after, strict=True))
    ratio = statistics.median(2 * b / (a + c) for a, b, c in turns)
    noise = statistics.median(abs(c / a - 1) for a, _, c in turns)
    memory = theirs["peak_bytes"] / ours["peak_bytes"]
    return (
        f"| {case['name']} | {case['frames']} | {found['difference']:.1e} | {verdict(found)} | {ratio:.2f}x | {noise:.0%} "
        f"| {memory:.2f}x |"
    )


def compare_plans() -> dict[str, int]:
    """Windows over a grid of settings: how many are the same in both, and what is wrong with theirs where not."""
    from animatediff_evolved.animatediff.context import get_context_windows

    from fast_animatediff.motion_modules.windows import WindowHandler, WindowSettings

    lengths, frames = ((16, 4), (16, 0), (16, 8), (24, 6), (8, 1)), (17, 20, 24, 31, 32, 36, 48, 64, 100)
    schedules = ("standard_static", "standard_uniform", "looped_uniform", "batched")
    found: Counter[str] = Counter()
    for (length, overlap), clip, schedule in product(lengths, frames, schedules):
        is_uniform, loops = "uniform" in schedule, (False, True) if schedule == "looped_uniform" else (False,)
        for stride, step, loop in product(
            range(1, 5 if is_uniform else 2), range(6 if is_uniform else 1), loops
        ):
            if clip <= length:
                continue
            case = Case("", clip, length, overlap, schedule, "pyramid", stride, loop)
            theirs = directions.their_windows(case)
            theirs.step = step
            handler = WindowHandler(WindowSettings(length, overlap, schedule, "pyramid", stride, loop))
            handler._step = step
            windows = [[int(frame) for frame in window] for window in get_context_windows(clip, theirs)]
            is_sound = all(max(w) < clip and len(set(w)) == len(w) for w in windows)
            is_sound = is_sound and set(range(clip)) <= {frame for window in windows for frame in window}
            same = "same" if handler.windows_of(clip) == windows else "different"
            found[same if is_sound else f"{same}, theirs repeats or lacks frames"] += 1
    return dict(found)
