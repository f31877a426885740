"""What is settled once, when sampling begins: the clip's length, its windows, its conditions frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import comfy.utils
from comfy.patcher_extension import WrappersMP

from .control_windows import hints_of
from .empty_latent import LATENT_CHANNELS
from .host_internals import (
    CONTEXT_HANDLER,
    CONTEXT_WINDOW,
    PREPARE_WINDOWS,
    Executor,
    condition_with,
    has_windows_of_animatediff_evolved,
    needs_whole_clip,
    rows_of_condition,
    window_frames,
)
from .layer_windows import LayerWindowsHandler
from .model import MotionModuleConfig
from .prompt_schedule import check_frames_of_prompts
from .spatial import FEED_FORWARD_LIMIT, feed_forward_limit
from .windows import WindowHandler, WindowSettings

log = logging.getLogger(__name__)

# In transformer_options: frames, height and width of the clip that is sampled.
CLIP_FRAMES, CLIP_SIZE = "fast_animatediff_frames", "fast_animatediff_size"
STEP = "fast_animatediff_step"


@dataclass(frozen=True)
class BeginSampling:
    """OUTER_SAMPLE wrapper: notes the clip's length; windows it if it needs that and nobody chose how.

    masks: how many say where the motion module acts.
    """

    config: MotionModuleConfig
    masks: int = 1

    def __call__(self, executor: Executor, noise: Tensor, *arguments: Any, **options: Any) -> Tensor:
        guider = executor.class_obj
        model_options = guider.model_options  # the guider's copy for this run
        check_is_clip(noise)
        frames = noise.shape[0]
        check_frames_of_prompts(guider.conds, frames)
        _check_prompts_are_numbers(guider)
        model_options.setdefault("transformer_options", {}).update(
            {CLIP_FRAMES: frames, CLIP_SIZE: tuple(noise.shape[-2:])}
        )
        warn_of_length("masks on Apply Motion Module", self.masks, frames)
        if frames == 1:
            log.warning(
                "One frame has no motion. Set num_frames of Empty Video Latent (or the batch size) to 16."
            )
        handler = model_options.get(CONTEXT_HANDLER)
        if getattr(handler, "dim", 0) != 0:
            raise ValueError(
                f"These context windows cut dimension {handler.dim} of the latent, but the frames are dimension 0. Set dim "
                "to 0, or use Context Windows (AnimateDiff)."
            )
        if handler is None and not has_windows_of_animatediff_evolved(guider.model_patcher):
            handler = self._windows_if_needed(frames)
            if handler is not None:
                model_options[CONTEXT_HANDLER] = handler
        elif handler is not None and frames > handler.context_length:
            log.info(
                "%d frames in context windows of %d, overlap %d",
                *(frames, handler.context_length, handler.context_overlap),
            )
        if isinstance(handler, LayerWindowsHandler):
            # The host would make room for one window, but such a clip is in memory as a whole.
            prepare = model_options["transformer_options"]["wrappers"][WrappersMP.PREPARE_SAMPLING]
            prepare.pop(PREPARE_WINDOWS, None)
        if handler is None or frames <= handler.context_length:
            log.info("%d frames in one piece", frames)
        if isinstance(handler, WindowHandler) and handler.is_windowed(frames):
            _refuse_what_needs_whole_clip(model_options)
        return executor(noise, *arguments, **options)

    def _windows_if_needed(self, frames: int) -> WindowHandler | None:
        family = self.config.family
        if frames <= min(family.frames, self.config.positions):
            return None
        log.info(
            "%d frames are more than %s renders at once: context windows of %d frames, overlap %d.",
            *(frames, self.config.file_name, family.window, family.overlap),
        )
        return WindowHandler(WindowSettings(family.window, family.overlap))


def check_is_clip(latent: Tensor) -> None:
    """Errors: ValueError where a latent, or its noise, is none of SD1.5: (frames, 4, height, width)."""
    if latent.ndim != 4 or latent.shape[1] != LATENT_CHANNELS:
        found = f"{latent.ndim} dimensions" if latent.ndim != 4 else f"{latent.shape[1]} channels"
        raise ValueError(
            f"This latent has {found} {tuple(latent.shape)}, as those of other models; SD1.5 takes "
            "(frames, 4, height, width). Use Empty Video Latent, or VAE Encode with an SD1.5 VAE."
        )


def _check_prompts_are_numbers(guider: Any) -> None:
    """Errors: ValueError where a conditioning is infinite or NaN for the UNet; every frame would be."""
    most = torch.finfo(guider.model_patcher.model.get_dtype_inference()).max
    for name, entries in guider.conds.items():
        for rows in (entry.get("cross_attn") for entry in entries or ()):
            if not isinstance(rows, Tensor) or not rows.numel():
                continue
            low, high = rows.aminmax()
            if not ((low >= -most) & (high <= most)).all():
                raise ValueError(
                    f"The {name} prompt became NaN or infinite. Check its weights, such as (words:1.2), for one that is far "
                    "too large, and the text encoder."
                )


def _refuse_what_needs_whole_clip(model_options: dict) -> None:
    """SAG compares the attention of the last call with the whole clip; EasyCache takes each window for the one before."""
    name = needs_whole_clip(model_options)
    if name is not None:
        raise ValueError(
            f"{name} does not work in context windows. Remove that node, or render no more frames than one window holds, "
            "or switch motion_layers_only of Context Windows (AnimateDiff) on."
        )


def frames_of_clip(x: Tensor, transformer_options: dict) -> int:
    """Frames of each clip, or of its window, in a UNet call's batch (b * f, ...).

    The host notes the noise level of each frame that it samples at once, also in other packs' windows. Wrappers stack
    tiles along the batch or split it by condition, so the number of conditions counts only outside of sampling.

    Errors: ValueError where the batch is not made of whole windows or clips.
    """
    batch, window, sigmas = (
        x.shape[0],
        transformer_options.get(CONTEXT_WINDOW),
        transformer_options.get("sigmas"),
    )
    lengths = (
        transformer_options.get(CLIP_FRAMES, 0),
        len(window_frames(window)) if window is not None else 0,
        sigmas.numel() if isinstance(sigmas, Tensor) and sigmas.numel() > 1 else 0,
    )
    frames = min(filter(None, lengths), default=batch // len(transformer_options.get("cond_or_uncond", (0,))))
    if frames == 0 or batch % frames:
        raise ValueError(
            f"The model was given a batch of {batch}, which is not made of whole clips of {frames} frames: another node "
            "splits or pads it. Remove that node, or let it pass the batch as a whole."
        )
    return frames


def window_params(frames: int, transformer_options: dict) -> dict[str, Any]:
    """What other packs read from `ad_params`: IPAdapter nodes pick their frames by it. Another pack's own stays."""
    window = transformer_options.get(CONTEXT_WINDOW)
    if window is not None:
        indices = window_frames(window)
        return {"full_length": window.total_frames, "context_length": len(indices), "sub_idxs": indices}
    theirs = transformer_options.get("ad_params")
    return theirs or {"full_length": frames, "context_length": None, "sub_idxs": None}


def frames_in_call(frames: int, params: dict[str, Any]) -> tuple[Sequence[int], int]:
    """Which frames of the clip a UNet call holds, and the clip's length, where another pack's indices are those of all."""
    indices = params["sub_idxs"] or ()
    return (indices, params["full_length"]) if len(indices) == frames else (range(frames), frames)


def check_is_whole(x: Tensor, transformer_options: dict, node: str) -> None:
    """Errors: ValueError where a UNet call holds a part of the picture, so that a mask's place in it is not known."""
    size = transformer_options.get(CLIP_SIZE)
    if size not in (None, tuple(x.shape[-2:])):
        width, height, whole_width, whole_height = (8 * side for side in (*x.shape[:-3:-1], *size[::-1]))
        raise ValueError(
            f"The mask of {node} is of the whole picture, {whole_width}x{whole_height}, but only "
            f"{width}x{height} of it are sampled here. Remove the mask, or the tiles or the area that make these parts."
        )


def warn_of_length(name: str, length: int, frames: int) -> None:
    """Says what becomes of rows that are neither one for all frames nor one for each."""
    if length not in (1, frames):
        how = "the first are used" if length > frames else "they are repeated"
        log.warning("%d %s for %d frames: %s, one for each frame.", length, name, frames, how)


@dataclass
class Step:
    """sigma: of the current step, once it was read from the card."""

    sigma: float | None = None


def begin_step(
    executor: Callable, x: Tensor, timestep: Tensor, model_options: dict, *arguments: Any, **options: Any
) -> Tensor:
    """PREDICT_NOISE wrapper: lets all that asks for the noise level in this step wait for the card only once."""
    model_options.setdefault("transformer_options", {})[STEP] = Step()
    return executor(x, timestep, model_options, *arguments, **options)


def noise_level(sigma: Tensor, transformer_options: dict) -> float:
    """The sigma of a step as a number."""
    step = transformer_options.get(STEP) or Step()
    if step.sigma is None:
        step.sigma = float(sigma.flatten()[0])
    return step.sigma


def conditions_by_frame(executor: Callable, guider: Any, *arguments: Any, **options: Any) -> Tensor:
    """SAMPLER_SAMPLE wrapper: gives conditions and masks of another length than the clip one row for each frame.

    Longer ones are cut and shorter ones repeated, as the host does with prompts of a clip in one piece. In windows it
    would start them again with each, and masks that don't divide the clip's length would stop it. All go to the device of
    the noise, where the host would put them again at each UNet call.

    Errors: ValueError where a ControlNet has no hint images.
    """
    noise, transformer_options = arguments[3], arguments[1]["model_options"]["transformer_options"]
    transformer_options[FEED_FORWARD_LIMIT] = feed_forward_limit(noise.device)
    frames = noise.shape[0]
    found: set[tuple[str, int]] = set()
    for conditions in guider.conds.values():
        for condition in conditions or ():
            for hints in hints_of(condition.get("control")):
                if len(hints) == 0:
                    raise ValueError(
                        "A ControlNet has no hint images. Check what is connected to its image input."
                    )
                if len(hints) not in (1, frames):
                    found.add(("ControlNet hints", len(hints)))
            mask = condition.get("mask")
            if isinstance(mask, Tensor) and mask.shape[0] not in (1, frames):
                found.add(("masks", mask.shape[0]))
                condition["mask"] = comfy.utils.repeat_to_batch_size(mask, frames)
            model_conds = condition.get("model_conds", {})
            for name, value in list(model_conds.items()):
                rows = rows_of_condition(value)
                if rows is None:
                    continue
                rows = rows.to(noise.device)
                if rows.shape[0] not in (1, frames):
                    found.add(("prompts" if name == "c_crossattn" else name, rows.shape[0]))
                    rows = comfy.utils.repeat_to_batch_size(rows, frames)
                model_conds[name] = condition_with(value, rows)
    for name, length in sorted(found):
        warn_of_length(name, length, frames)
    return executor(guider, *arguments, **options)
