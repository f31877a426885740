"""Hooks on a contender's UNet and motion layers: which calls were made, on what, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .counting import Counts, OperationCounter


class Clock:
    """Moments on the device: CUDA events, which wait for nothing, or the processor's clock."""

    def __init__(self, device: str) -> None:
        self.is_cuda = device == "cuda"

    def now(self) -> Any:
        if not self.is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        """Seconds; call `wait` before."""
        return start.elapsed_time(end) / 1000 if self.is_cuda else end - start

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()


@dataclass(frozen=True)
class UNetInput:
    """x: (b * f, 4, h, w) as the UNet sees it. timestep: of any shape. context: (n, tokens, channels)."""

    x: Tensor
    timestep: Tensor
    context: Tensor


@dataclass
class Recording:
    """What one run did. times: of each UNet call's start. layers: (level, start, end) of each motion layer call."""

    batches: list[int] = field(default_factory=list)
    timesteps: list[Any] = field(
        default_factory=list
    )  # tensors while it runs: reading them would stop the device
    times: list[Any] = field(default_factory=list)
    layers: list[tuple[int, Any, Any]] = field(default_factory=list)
    first: list[tuple[UNetInput, Tensor]] = field(default_factory=list)  # all calls of the first step
    unet_counts: list[Counts] = field(default_factory=list)
    layer_counts: list[tuple[int, int, Counts]] = field(default_factory=list)  # (level, bytes of x, counts)

    def step_seconds(self, clock: Clock) -> list[float]:
        """From the first UNet call of each step to that of the next; the last step has no end here."""
        changes = zip(self.timesteps, [None, *self.timesteps], strict=False)
        starts = [moment for moment, (now, before) in zip(self.times, changes, strict=False) if now != before]
        return [clock.between(*pair) for pair in zip(starts, starts[1:], strict=False)]

    def calls(self) -> str:
        """Such as `8 of 32 frames`: UNet calls and the frames in each."""
        counted = {batch: self.batches.count(batch) for batch in dict.fromkeys(self.batches)}
        return " + ".join(f"{count} of {batch} frames" for batch, count in counted.items())


@contextmanager
def record(
    unet: nn.Module,
    layers: list[tuple[int, nn.Module]],
    read_input: Callable[[tuple, dict], UNetInput],
    clock: Clock,
    counter: OperationCounter | None = None,
    keep_first: bool = False,
) -> Iterator[Recording]:
    """Records every call of the UNet, and of the motion layers given as (level, module), until the block is left."""
    recording = Recording()
    started: list[tuple[Any, UNetInput, Counts | None]] = []
    layer_started: list[tuple[Any, Counts | None]] = []

    def before_unet(_: nn.Module, args: tuple, kwargs: dict) -> None:
        given = read_input(args, kwargs)
        recording.batches.append(given.x.shape[0])
        recording.timesteps.append(given.timestep)
        recording.times.append(clock.now())
        started.append((given, counter.total.copy() if counter else None))

    def after_unet(_: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        given, counts = started.pop()
        if keep_first and as_number(given.timestep) == as_number(recording.timesteps[0]):
            recording.first.append((given, output))
        if counter:
            recording.unet_counts.append(counter.total.minus(counts))

    def before_layer(_: nn.Module, args: tuple, kwargs: dict) -> None:
        layer_started.append((clock.now(), counter.total.copy() if counter else None))

    def after_layer(level: int, args: tuple, kwargs: dict) -> None:
        start, counts = layer_started.pop()
        recording.layers.append((level, start, clock.now()))
        if counter:
            x = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            counted = counter.total.minus(counts)
            recording.layer_counts.append((level, x.numel() * x.element_size(), counted))

    handles = [
        unet.register_forward_pre_hook(before_unet, with_kwargs=True),
        unet.register_forward_hook(after_unet, with_kwargs=True),
    ]
    for level, layer in layers:
        handles.append(layer.register_forward_pre_hook(before_layer, with_kwargs=True))
        handles.append(
            layer.register_forward_hook(
                lambda _, args, kwargs, __, level=level: after_layer(level, args, kwargs), with_kwargs=True
            )
        )
    try:
        yield recording
    finally:
        for handle in handles:
            handle.remove()
        recording.timesteps = [as_number(timestep) for timestep in recording.timesteps]


def as_number(timestep: Tensor) -> float:
    return timestep.flatten()[0].item()
