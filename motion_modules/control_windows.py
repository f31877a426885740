"""ControlNet in context windows: each window gets the hints of its own frames.

The host gives every window the clip's first hints (Comfy-Org/ComfyUI pull 9238).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from types import MethodType
from typing import Any

from torch import Tensor

from .host_internals import CONTROL_CACHES

# Of hints that are kept resized from step to step: those of about 300 frames of 512x512.
KEPT_BYTES = 2**30


class WindowedControls:
    """A run's controls for each of its windows. They are kept, as the host resizes a control's hints only once.

    kept: by a control's id and the window's frames, both the control, which so keeps its id, and its copy. Where all
    don't fit into KEPT_BYTES, the last windows of a step take turns.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[int, tuple[int, ...]], tuple[Any, Any]] = {}

    def keep_only(self, windows: Sequence[Sequence[int]]) -> None:
        """Forgets the windows that a step no longer has."""
        alive = {tuple(window) for window in windows}
        self.kept = {key: pair for key, pair in self.kept.items() if key[1] in alive}

    def at(self, control: Any, frames: Sequence[int], clip_length: int) -> Any:
        """The control for a window: one object for cond and uncond, which the host else runs apart."""
        key = (id(control), tuple(frames))
        if key not in self.kept:
            while self._bytes() > KEPT_BYTES and next(reversed(self.kept))[1] != key[1]:
                self.kept.popitem()
            self.kept[key] = (control, control_of_frames(control, frames, clip_length))
        return self.kept[key][1]

    def _bytes(self) -> int:
        return sum(
            hint[:1].nbytes * len(frames)
            for (_, frames), (control, windowed) in self.kept.items()
            if windowed is not control
            for hint in hints_of(windowed)
        )


def hints_of(control: Any) -> Iterator[Tensor]:
    """The hint images (n, ...) of a control and of those chained before it."""
    while control is not None:
        if isinstance(control.cond_hint_original, Tensor):
            yield control.cond_hint_original
        control = control.previous_controlnet


def control_of_frames(control: Any, frames: Sequence[int], clip_length: int) -> Any:
    """A control, and those chained before it, for some frames of a clip; fewer hints than frames are repeated.

    A shallow copy: it shares the weights and keeps its own resized hints from step to step.
    """
    if control is None:
        return None
    previous = control_of_frames(control.previous_controlnet, frames, clip_length)
    chooses_itself = hasattr(control, "sub_idxs")  # Advanced-ControlNet
    batched = [control.cond_hint_original, *control.extra_concat_orig]
    is_batched = any(isinstance(hint, Tensor) and hint.shape[0] > 1 for hint in batched)
    if previous is control.previous_controlnet and not is_batched and not chooses_itself:
        return control
    windowed = copied(control)
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


def copied(control: Any) -> Any:
    """A shallow copy that answers for itself: Advanced-ControlNet keeps bound methods among an object's attributes."""
    own = copy.copy(control)
    for name, value in vars(control).items():
        if isinstance(value, MethodType) and value.__self__ is control:
            setattr(own, name, MethodType(value.__func__, own))
    return own


def forget_batch(control: Any) -> None:
    """Before the batch gets smaller: T2I-Adapters keep features of its first size, and the host drops what does not fit."""
    while control is not None:
        if hasattr(control, "control_input"):
            control.control_input = None
        control = control.previous_controlnet


def of_frames(hint: Any, frames: Sequence[int]) -> Any:
    """The rows of a hint (n, ...) for these frames; one hint serves all."""
    if not isinstance(hint, Tensor) or hint.shape[0] <= 1:
        return hint
    return hint[[frame % hint.shape[0] for frame in frames]]
