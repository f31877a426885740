"""ControlNet in context windows: each window gets the hints of its own frames.

The host gives every window the clip's first hints (Comfy-Org/ComfyUI pull 9238).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from .host_internals import CONTROL_CACHES


def control_of_frames(control: Any, frames: Sequence[int], clip_length: int) -> Any:
    """A control, and those chained before it, for some frames of a clip; fewer hints than frames are repeated.

    A shallow copy: it shares the weights and keeps its own resized hints from step to step.
    """
    if control is None:
        return None
    previous = control_of_frames(control.previous_controlnet, frames, clip_length)
    chooses_itself = hasattr(control, "sub_idxs")  # Advanced-ControlNet
    batched = [control.cond_hint_original, *control.extra_concat_orig]
    is_batched = any(isinstance(hint, torch.Tensor) and hint.shape[0] > 1 for hint in batched)
    if previous is control.previous_controlnet and not is_batched and not chooses_itself:
        return control
    windowed = copy.copy(control)
    windowed.previous_controlnet = previous
    for name in CONTROL_CACHES:
        if hasattr(windowed, name):
            setattr(windowed, name, None)
    if chooses_itself:
        windowed.sub_idxs = list(frames)
        windowed.full_latent_length, windowed.context_length = clip_length, len(frames)
    else:
        windowed.cond_hint_original = of_frames(control.cond_hint_original, frames)
        windowed.extra_concat_orig = [of_frames(hint, frames) for hint in control.extra_concat_orig]
    return windowed


def of_frames(hint: Any, frames: Sequence[int]) -> Any:
    """The rows of a hint (n, ...) for these frames; one hint serves all."""
    if not isinstance(hint, torch.Tensor) or hint.shape[0] <= 1:
        return hint
    return hint[[frame % hint.shape[0] for frame in frames]]
