"""Context windows: clips longer than a motion module renders well, in overlapping windows of frames.

The windows are the host's own (comfy/context_windows.py, after FreeNoise, arXiv 2310.15169); frames are its dim 0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from comfy.context_windows import (
    IndexListContextHandler,
    create_prepare_sampling_wrapper,
    create_sampler_sample_wrapper,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from .layer_windows import LayerWindowsHandler
from .model import MotionModuleConfig

log = logging.getLogger(__name__)


def make_windows(
    context_length: int,
    context_overlap: int,
    context_schedule: str = "standard_static",
    fuse_method: str = "pyramid",
    context_stride: int = 1,
    closed_loop: bool = False,
    freenoise: bool = False,
    motion_layers_only: bool = False,
) -> IndexListContextHandler:
    """The host's window handler over frames. Lengths are in frames.

    motion_layers_only: see `layer_windows`.

    Its causal fix is for video models with causal attention: it would make windows one frame longer
    (Comfy-Org/ComfyUI pull 13563).
    """
    if context_overlap >= context_length:
        raise ValueError(
            f"context_overlap {context_overlap} must be smaller than context_length {context_length}; a quarter is usual."
        )
    handler = LayerWindowsHandler if motion_layers_only else IndexListContextHandler
    return handler(
        context_schedule=get_matching_context_schedule(context_schedule),
        fuse_method=get_matching_fuse_method(fuse_method),
        context_length=context_length,
        context_overlap=context_overlap,
        context_stride=context_stride,
        closed_loop=closed_loop,
        freenoise=freenoise,
        dim=0,
        causal_window_fix=False,
    )


def set_windows(model: ModelPatcher, windows: IndexListContextHandler) -> ModelPatcher:
    """A clone of the model that samples longer clips in these windows."""
    patched = model.clone()
    patched.model_options["context_handler"] = windows
    # The wrapper tells the host that only one window is in memory at a time.
    if not isinstance(windows, LayerWindowsHandler):
        create_prepare_sampling_wrapper(patched)
    if windows.freenoise:
        create_sampler_sample_wrapper(patched)
    return patched


def check_frames(frames: int, config: MotionModuleConfig) -> None:
    """Errors: ValueError where one UNet call holds more frames than the module has positions."""
    if frames > config.positions:
        raise ValueError(
            f"{config.file_name} ({config.family.name}) attends to at most {config.positions} frames, this window has "
            f"{frames}. Set context_length to {config.family.window} (core's Context Windows node: and switch "
            "causal_window_fix off), or remove the Context Windows node: longer clips get windows by themselves."
        )


@dataclass(frozen=True)
class WindowsIfNeeded:
    """OUTER_SAMPLE wrapper: sets windows for this run if the clip needs them and the user chose none."""

    config: MotionModuleConfig

    def __call__(self, executor: Callable, noise: Tensor, *arguments: Any, **options: Any) -> Tensor:
        model_options = executor.class_obj.model_options  # the guider's copy for this run
        family = self.config.family
        frames = noise.shape[0]
        if frames == 1:
            log.warning(
                "One frame has no motion. Set num_frames of Empty Video Latent (or the batch size) to 16."
            )
        if frames > min(family.frames, self.config.positions) and "context_handler" not in model_options:
            log.info(
                "%d frames are more than %s renders at once: context windows of %d frames, overlap %d.",
                *(frames, self.config.file_name, family.window, family.overlap),
            )
            model_options["context_handler"] = make_windows(family.window, family.overlap)
        windows = model_options.get("context_handler")
        if isinstance(windows, LayerWindowsHandler):
            # The host would make room for one window, but such a clip is in memory as a whole.
            prepare = model_options["transformer_options"]["wrappers"][WrappersMP.PREPARE_SAMPLING]
            prepare.pop("ContextWindows_prepare_sampling", None)
        is_windowed = (
            windows is not None
            and frames > windows.context_length
            and not isinstance(windows, LayerWindowsHandler)
        )
        if is_windowed and any(
            "control" in cond for conds in executor.class_obj.conds.values() for cond in conds
        ):
            log.warning(
                "ControlNet in context windows: the host gives each window the hints of the clip's first %d frames "
                "(Comfy-Org/ComfyUI pull 9238). Render at most %d frames for hints that fit.",
                *(windows.context_length, min(family.frames, self.config.positions)),
            )
        return executor(noise, *arguments, **options)
