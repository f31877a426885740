"""Context windows: clips longer than the motion module are rendered in overlapping windows of frames.

The schedules and the fusing are the host's (comfy/context_windows.py, after FreeNoise, arXiv 2310.15169); frames are its
dim 0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from .control_windows import WindowedControls
from .host_internals import (
    CONTEXT_HANDLER,
    ContextFuseMethod,
    ContextFuseMethods,
    ContextSchedules,
    Executor,
    IndexListContextHandler,
    IndexListContextWindow,
    create_prepare_sampling_wrapper,
    create_sampler_sample_wrapper,
    get_matching_context_schedule,
    get_matching_fuse_method,
    loop_start,
    window_frames,
)
from .model import MotionModuleConfig

KEY = "fast_animatediff_windows"


@dataclass(frozen=True)
class WindowSettings:
    """Lengths are in frames. motion_layers_only: see `layer_windows`."""

    context_length: int
    context_overlap: int
    context_schedule: str = ContextSchedules.STATIC_STANDARD
    fuse_method: str = ContextFuseMethods.PYRAMID
    context_stride: int = 1
    closed_loop: bool = False
    freenoise: bool = False
    motion_layers_only: bool = False


class WindowHandler(IndexListContextHandler):
    """The host's handler with windows that are checked, and with each window's own frames of a control's hints.

    Its causal fix stays off: made for video models with causal attention, it makes windows one frame longer
    (Comfy-Org/ComfyUI pull 13563).
    """

    def __init__(self, settings: WindowSettings) -> None:
        check_overlap(settings.context_length, settings.context_overlap)
        super().__init__(
            context_schedule=get_matching_context_schedule(settings.context_schedule),
            fuse_method=get_matching_fuse_method(settings.fuse_method),
            context_length=settings.context_length,
            context_overlap=settings.context_overlap,
            context_stride=settings.context_stride,
            closed_loop=settings.closed_loop,
            freenoise=settings.freenoise,
            dim=0,
            causal_window_fix=False,
        )
        self._begin()

    def _begin(self) -> None:
        if self.fuse_method.name == ContextFuseMethods.OVERLAP_LINEAR:
            self.fuse_method = ContextFuseMethod(self.fuse_method.name, overlap_linear_weights)
        self._clip = 0
        self.forget_controls()

    def forget_controls(self) -> None:
        """Lets the controls for each window be made anew."""
        self._controls = WindowedControls()

    @classmethod
    def for_run(cls, handler: IndexListContextHandler) -> WindowHandler:
        """A handler for one run, as it keeps that run's controls; also of core's Context Windows node."""
        own: Any = copy.copy(handler)
        own.__class__ = type(handler) if isinstance(handler, cls) else cls
        own._begin()
        return own

    def is_rolled(self, frames: int) -> bool:
        """Whether a clip fits into one window and loops: at each step that begins with another frame."""
        return self.closed_loop and 1 < frames <= self.context_length

    def is_windowed(self, frames: int) -> bool:
        """Whether the model does not see the clip as a whole and in its order."""
        return self.is_rolled(frames) or frames > self.context_length

    def should_use_context(self, model: Any, conds: list, x_in: Tensor, *arguments: Any) -> bool:
        return self.is_windowed(x_in.shape[self.dim])

    def windows_of(self, frames: int, model_options: dict | None = None) -> list[list[int]]:
        """The frames of each window of a clip, at the current step."""
        if self.is_rolled(frames):
            start = loop_start(self, frames)
            return [[(start + frame) % frames for frame in range(frames)]]
        found = self.context_schedule.func(frames, self, model_options or {})
        return checked_windows(found, frames, self.context_length)

    def get_context_windows(
        self, model: Any, x_in: Tensor, model_options: dict
    ) -> list[IndexListContextWindow]:
        self._clip = x_in.shape[self.dim]
        found = self.windows_of(self._clip, model_options)
        self._controls.keep_only(found)
        return [
            IndexListContextWindow(window, self.dim, self._clip, context_overlap=self.context_overlap)
            for window in found
        ]

    def get_resized_cond(self, cond_in: list[dict], x_in: Tensor, window: Any, device: Any = None) -> list:
        self._window = window
        return super().get_resized_cond(cond_in, x_in, window, device)

    def prepare_control_objects(self, control: Any, device: Any = None) -> Any:
        """The control for the current window."""
        return self._controls.at(control, window_frames(self._window), self._clip)


def overlap_linear_weights(
    length: int, full_length: int, idxs: Sequence[int], context_overlap: int, **_: Any
) -> list[float]:
    """The host's linear ramps over the overlap; it fails where there is none or a window is shorter than it."""
    ramp = min(context_overlap, length)
    if ramp == 0:
        return [1.0] * length
    weights = get_matching_fuse_method(ContextFuseMethods.OVERLAP_LINEAR).func(
        length, full_length=full_length, idxs=idxs, context_overlap=ramp
    )
    return [float(weight) for weight in weights]


def checked_windows(windows: Sequence[Sequence[int]], frames: int, length: int) -> list[list[int]]:
    """Windows over a clip in which each frame occurs, and none twice in a window or beyond the clip's end.

    The host's uniform schedules with a stride run past the end, repeat frames and leave some out.
    """
    found: list[list[int]] = []
    for window in windows:
        shift = min(0, frames - 1 - max(window))
        inside = list(dict.fromkeys(index + shift for index in window if index + shift >= 0))
        if inside not in found:
            found.append(inside)
    missing = set(range(frames)).difference(*found)
    while missing:
        start = min(min(missing), max(0, frames - length))
        found.append(list(range(start, min(start + length, frames))))
        missing.difference_update(found[-1])
    return found


def check_overlap(length: int, overlap: int) -> None:
    """Errors: ValueError where windows would not advance."""
    if overlap >= length:
        raise ValueError(
            f"context_overlap {overlap} must be smaller than context_length {length}; a quarter is usual."
        )


def begin_windows(executor: Executor, noise: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """OUTER_SAMPLE wrapper: gives each run a handler of its own, but leaves those of other packs as they are."""
    model_options = executor.class_obj.model_options  # the guider's copy for this run
    handler = model_options.get(CONTEXT_HANDLER)
    is_known = isinstance(handler, WindowHandler) or type(handler) is IndexListContextHandler
    if is_known and handler.dim == 0:
        if noise.shape[0] > handler.context_length:
            check_overlap(handler.context_length, handler.context_overlap)
        model_options[CONTEXT_HANDLER] = WindowHandler.for_run(handler)
    return executor(noise, *arguments, **options)


def run_in_windows(model: ModelPatcher) -> None:
    """Lets the model sample in the windows that its options hold by then, and the host make room for one only."""
    if not model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, begin_windows)
        create_prepare_sampling_wrapper(model)


def set_windows(model: ModelPatcher, windows: WindowHandler) -> ModelPatcher:
    """A clone of the model that samples longer clips in these windows."""
    patched = model.clone()
    patched.model_options[CONTEXT_HANDLER] = windows
    run_in_windows(patched)
    if windows.freenoise:
        create_sampler_sample_wrapper(patched)
    return patched


def check_frames(frames: int, config: MotionModuleConfig) -> None:
    """Errors: ValueError where one UNet call holds more frames than the module has positions."""
    if frames > config.positions:
        raise ValueError(
            f"{config.file_name} ({config.family.name}) attends to at most {config.positions} frames, this window has "
            f"{frames}. Set context_length to {config.family.window} (core's Context Windows node: and switch "
            "causal_window_fix off), or remove the Context Windows node: longer clips are windowed automatically."
        )
