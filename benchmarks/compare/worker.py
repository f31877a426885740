"""The process of one contender: it loads, says so, and does what it is asked, one JSON line each way."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .contender import Contender, Setting, SkippedError
from .counting import OperationCounter
from .jobs import SIZES, Job, clip, conditions, relative_error
from .machine import machine, process_peak
from .recording import Clock, Recording, record

STARTED = time.perf_counter()


class Worker:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.clock = Clock(setting.device)
        self.contender: Contender | None = None

    def load(self) -> dict[str, Any]:
        start = time.perf_counter()
        self.contender = contender_class(self.setting)(self.setting)
        self.clock.wait()
        return {
            "version": self.contender.version(),
            "seconds": time.perf_counter() - start,
            "since_start": time.perf_counter() - STARTED,
        }

    def imports(self) -> dict[str, Any]:
        """Seconds to import the contender's code, all of it, after torch and the host."""
        contender = contender_class(self.setting)
        contender.prepare_import(self.setting)
        start = time.perf_counter()
        contender.import_code(self.setting)
        return {"seconds": [time.perf_counter() - start]}

    @contextmanager
    def recording(self, counter: OperationCounter | None = None, keep_first: bool = False) -> Any:
        contender = self.contender
        layers, read_input = contender.motion_layers(), contender.read_input
        # While counting no inference mode: there whole linear layers would arrive as one operation.
        mode = torch.no_grad() if counter else torch.inference_mode()
        with mode, record(contender.unet, layers, read_input, self.clock, counter, keep_first) as recording:
            yield recording
            self.clock.wait()

    def check(self, job: Job, reference: str) -> dict[str, Any]:
        """Relative errors of the first UNet call and of the latents at the end, as the reference has them."""
        expected = torch.load(reference, weights_only=True)
        is_normed = hasattr(self.contender, "per_frame_norms")
        if is_normed:
            self.contender.per_frame_norms()
        try:
            with self.recording(keep_first=True) as done:
                latents = self.contender.sample(job).cpu()
        finally:
            if is_normed:
                self.contender.own_norms()
        found = self._first_call(done, job)
        errors = {name: relative_error(found[name], expected[name]) for name in ("positive", "negative")}
        return {
            "error": max(errors.values()),
            "error_of_latents": relative_error(latents * self.contender.latent_scale, expected["latents"]),
            "timesteps": done.timesteps,
            "calls": done.calls(),
        }

    def _first_call(self, done: Recording, job: Job) -> dict[str, Tensor]:
        """The UNet's output for each prompt, told apart by the context that it was given."""
        found = {}
        for given, output in done.first:
            frames = self.contender.frames_first(output, job.frames).float().cpu().split(job.frames)
            contexts = given.context.float().cpu()[:: job.frames]
            for value, context in zip(frames, contexts, strict=True):
                distances = [relative_error(context, c[0]) for c in conditions()]
                found["positive" if distances[0] < distances[1] else "negative"] = value
        return found

    def steps(self, job: Job) -> dict[str, Any]:
        """Seconds of each step but the first and the last, and of the motion layers in them, by level."""
        with self._memory() as memory, self.recording() as done:
            self.contender.sample(job)
        levels: dict[int, float] = {}
        for level, start, end in done.layers:
            levels[level] = levels.get(level, 0.0) + self.clock.between(start, end)
        calls = len(done.batches)
        return {
            "seconds": done.step_seconds(self.clock)[1:],
            "layers": {level: seconds / calls for level, seconds in sorted(levels.items())},
            "calls": done.calls(),
            **memory,
        }

    def run(self, job: Job, video: bool = False, path: str | None = None) -> dict[str, Any]:
        """Seconds of a whole clip. video: from a video, through the VAE both ways. path: to the end of an mp4."""
        images = clip(job) if video else None
        with self._memory() as memory, self.recording() as done:
            start = time.perf_counter()
            latent = self.contender.encode(images) if video else None
            latents = self.contender.sample(job, latent)
            if path:
                self.contender.export(latents, Path(path))
            elif video:
                self.contender.decode(latents)
            self.clock.wait()
            seconds = time.perf_counter() - start
        return {"seconds": [seconds], "calls": done.calls(), "timesteps": done.timesteps, **memory}

    def decode(self, job: Job) -> dict[str, Any]:
        latents = torch.randn(job.latent_shape, generator=torch.Generator().manual_seed(3)).to(
            self.setting.device
        )
        with self._memory() as memory, torch.inference_mode():
            start = time.perf_counter()
            self.contender.decode(latents)
            self.clock.wait()
            seconds = time.perf_counter() - start
        return {"seconds": [seconds], "calls": f"{job.frames} frames", **memory}

    def count(self, job: Job, what: str = "step") -> dict[str, Any]:
        """Counts of one UNet call and of its motion layers, or of decoding. Nothing is timed here."""
        counter = OperationCounter()
        if what == "decode":
            latents = torch.zeros(job.latent_shape, device=self.setting.device)
            with torch.no_grad(), counter:
                self.contender.decode(latents)
            return {"unet": counter.total.as_dict(), "peak": counter.peak}
        with self.recording(counter) as done, counter:
            self.contender.sample(replace(job, steps=1))
        unet = done.unet_counts[0]
        for more in done.unet_counts[1:]:
            unet = unet.plus(more)
        layers = [
            {"level": level, "kernels": c.kernels, "bytes": c.bytes, "units": c.bytes / x}
            for level, x, c in done.layer_counts[: len(self.contender.motion_layers())]
        ]
        return {"unet": unet.as_dict(), "layers": layers, "peak": counter.peak, "calls": done.calls()}

    def families(self, job: Job, folder: str) -> dict[str, str]:
        """The first UNet call with each family's module, as files."""
        from .weights import make_families

        self.load()
        paths = {}
        for family, file in make_families(self.setting.folder).items():
            paths[family] = str(Path(folder) / f"{family}-{self.setting.dtype}.pt")
            torch.save(self.contender.first_call(file, job), paths[family])  # type: ignore[union-attr]
        return paths

    def waits(self, job: Job) -> dict[str, Any]:
        """What PyTorch's debug mode says between the second and the third UNet call."""
        calls, on_card = [0], self.setting.device == "cuda"

        def before_unet(*_: Any) -> None:
            calls[0] += 1
            if on_card:
                torch.cuda.set_sync_debug_mode("warn" if calls[0] == 2 else "default")

        hook = self.contender.unet.register_forward_pre_hook(before_unet)
        try:
            with warnings.catch_warnings(record=True) as told, torch.inference_mode():
                warnings.simplefilter("always")
                self.contender.sample(job)
        finally:
            hook.remove()
        lines = [f"{Path(w.filename).name}:{w.lineno}" for w in told if "synchron" in str(w.message)]
        return {"waits": sorted(set(lines))}

    def profile(self, job: Job, path: str) -> dict[str, Any]:
        """Writes what one clip of few steps spends in each kernel."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.setting.device == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as found, torch.inference_mode():
            self.contender.sample(job)
            self.clock.wait()
        order = "self_device_time_total" if self.setting.device == "cuda" else "self_cpu_time_total"
        table = found.key_averages().table(sort_by=order, row_limit=60, max_name_column_width=90)
        Path(path).write_text(table + "\n", encoding="utf-8")
        return {}

    @contextmanager
    def _memory(self) -> Any:
        """Fills in `peak_bytes`: on CUDA what was allocated beyond the weights, else the process's peak."""
        found: dict[str, int] = {}
        if self.clock.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            yield found
            found["peak_bytes"] = torch.cuda.max_memory_allocated() - before
            found["peak_total_bytes"] = torch.cuda.max_memory_allocated()
        else:
            process_peak(reset=True)
            yield found
            found["peak_total_bytes"] = process_peak()


def contender_class(setting: Setting) -> type[Contender]:
    if setting.contender == "ours":
        from .ours import Ours

        return Ours
    if setting.contender == "ade":
        from .ade import Evolved

        return Evolved
    from .diffusers_pipeline import Diffusers

    return Diffusers


def make_reference(setting: Setting, job: Job, path: str) -> dict[str, Any]:
    """Makes the weights where they are missing and computes what the check compares with."""
    from .host import use_host
    from .reference import run_reference
    from .weights import describe, make_weights

    use_host(setting.host, setting.device, "fp32")
    make_weights(setting.folder, setting.size)
    torch.save(run_reference(setting.folder, setting.size, job, setting.device), path)
    return {"weights": describe(setting.folder), **machine(setting.device)}


def read_setting(values: dict[str, Any]) -> Setting:
    """A setting from JSON."""
    paths = {key: Path(values[key]) for key in ("folder", "host", "peer") if values.get(key)}
    return Setting(**values | paths | {"size": SIZES[values["size"]]})


def read_arguments(values: dict[str, Any]) -> dict[str, Any]:
    if "job" in values:
        names = {field.name for field in fields(Job)}
        values["job"] = Job(**{key: value for key, value in values["job"].items() if key in names})
    return values


def main() -> int:
    """Answers on what was the standard output; whatever else is printed goes to the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # such as which kernels were found faster
    worker: Worker | None = None
    for line in sys.stdin:
        command, values = json.loads(line)
        try:
            if command == "setting":
                worker = Worker(read_setting(values))
                torch.set_num_threads(worker.setting.threads)
                answer: dict[str, Any] = {}
            elif command == "reference":
                answer = make_reference(worker.setting, **read_arguments(values))
            else:
                answer = getattr(worker, command)(**read_arguments(values))
        except SkippedError as error:
            answer = {"skipped": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0
