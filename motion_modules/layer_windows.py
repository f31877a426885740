"""Context windows in the motion layers alone: every other layer sees each frame of a clip once, not once per window.

An approximation, as in FreeNoise (arXiv 2310.15169): overlapping windows are fused after each motion layer instead of
once, after the UNet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .frame_values import blend
from .host_internals import get_context_weights
from .temporal import BlockRunner, TemporalTransformer, TemporalTransformerBlock
from .windows import WindowHandler, WindowSettings


@dataclass(frozen=True)
class LayerWindow:
    """frames: of the clip. weights: (n, 1, 1, 1), how much each counts; those of all windows add up to 1 for each frame.
    index: the frames on the device, None where they follow one another."""

    frames: tuple[int, ...]
    weights: Tensor
    index: Tensor | None


class LayerWindowsHandler(WindowHandler):
    """The handler for lengths, schedule and fusing; the host's sampler passes the clip on in one piece."""

    def is_windowed(self, frames: int) -> bool:
        return self.is_rolled(frames)

    def _begin(self) -> None:
        super()._begin()
        self._built: dict[tuple, tuple[LayerWindow, ...]] = {}

    def layer_windows(self, frames: int, device: torch.device, dtype: torch.dtype) -> tuple[LayerWindow, ...]:
        """The windows of a clip, made once a run; none where it fits into one."""
        if frames <= self.context_length:
            return ()
        key = (frames, device, dtype)
        if key not in self._built:
            self._built[key] = self._build(*key)
        return self._built[key]

    def _build(self, frames: int, device: torch.device, dtype: torch.dtype) -> tuple[LayerWindow, ...]:
        windows = self.windows_of(frames)
        totals = [0.0] * frames
        weights = [
            [float(weight) for weight in get_context_weights(len(window), frames, window, self)]
            for window in windows
        ]
        for window, window_weights in zip(windows, weights, strict=True):
            for frame, weight in zip(window, window_weights, strict=True):
                totals[frame] += weight
        found = []
        for window, part in zip(windows, weights, strict=True):
            shares = torch.tensor([w / totals[f] for f, w in zip(window, part, strict=True)])
            is_run = window == list(range(window[0], window[0] + len(window)))
            index = None if is_run else torch.tensor(window, device=device)
            found.append(LayerWindow(tuple(window), shares.view(-1, 1, 1, 1).to(device, dtype), index))
        return tuple(found)


def make_windows(settings: WindowSettings) -> WindowHandler:
    """The handler that the settings ask for.

    Errors: ValueError where the overlap is not smaller than the length.
    """
    return (LayerWindowsHandler if settings.motion_layers_only else WindowHandler)(settings)


def in_windows(
    transformer: TemporalTransformer,
    x: Tensor,
    frames: int,
    windows: tuple[LayerWindow, ...],
    strength: float | Tensor,
    motion_scale: float | Tensor,
    elements: int = 0,
    run: BlockRunner = TemporalTransformerBlock.__call__,
) -> Tensor:
    """transformer(x) for features x (b * frames, c, h, w), in windows; all at once without any.

    strength, motion_scale: see `FrameValues.at`.
    """
    if isinstance(strength, Tensor):
        acted = in_windows(transformer, x, frames, windows, 1.0, motion_scale, elements, run)
        return blend(x, acted, strength)
    if not windows:
        return transformer(x, frames, strength, motion_scale, elements, run)
    clips = x.unflatten(0, (-1, frames))
    # What the windows add is summed, not their features: x itself is not rounded, and large ones don't overflow.
    fused = clips.clone()
    for window in windows:
        length, first = len(window.frames), window.frames[0]
        scale = motion_scale
        if window.index is None:
            part = clips.narrow(1, first, length)
            scale = scale.narrow(0, first, length) if isinstance(scale, Tensor) else scale
        else:
            part = clips.index_select(1, window.index)
            scale = scale.index_select(0, window.index) if isinstance(scale, Tensor) else scale
        motion = transformer.motion(part.flatten(0, 1), length, scale, elements, run)
        if window.index is None:
            fused.narrow(1, first, length).addcmul_(motion, window.weights, value=strength)
        else:
            fused.index_add_(1, window.index, motion * window.weights, alpha=strength)
    return fused.flatten(0, 1)
