"""Context windows in the motion layers alone: every other layer sees each frame of a clip once, not once per window.

An approximation, as in FreeNoise (arXiv 2310.15169): overlapping windows are fused after each motion layer instead of
once, after the UNet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .frame_values import blend
from .host_internals import get_context_weights
from .windows import WindowHandler, WindowSettings


@dataclass(frozen=True)
class LayerWindow:
    """frames: of the clip. weights: how much each counts; those of all windows add up to 1 for each frame."""

    frames: tuple[int, ...]
    weights: tuple[float, ...]


class LayerWindowsHandler(WindowHandler):
    """The handler for lengths, schedule and fusing; the host's sampler passes the clip on in one piece."""

    def is_windowed(self, frames: int) -> bool:
        return self.is_rolled(frames)

    def layer_windows(self, frames: int) -> tuple[LayerWindow, ...]:
        """The windows of a clip, the same at each step; none where it fits into one."""
        if frames <= self.context_length:
            return ()
        windows = self.windows_of(frames)
        totals = [0.0] * frames
        weights = [
            [float(weight) for weight in get_context_weights(len(window), frames, window, self)]
            for window in windows
        ]
        for window, window_weights in zip(windows, weights, strict=True):
            for frame, weight in zip(window, window_weights, strict=True):
                totals[frame] += weight
        return tuple(
            LayerWindow(tuple(window), tuple(w / totals[f] for f, w in zip(window, part, strict=True)))
            for window, part in zip(windows, weights, strict=True)
        )


def make_windows(settings: WindowSettings) -> WindowHandler:
    """The handler that the settings ask for.

    Errors: ValueError where the overlap is not smaller than the length.
    """
    return (LayerWindowsHandler if settings.motion_layers_only else WindowHandler)(settings)


def in_windows(
    transformer: Callable[[Tensor, int, float, float | Tensor], Tensor],
    x: Tensor,
    frames: int,
    windows: tuple[LayerWindow, ...],
    strength: float | Tensor,
    motion_scale: float | Tensor,
) -> Tensor:
    """transformer(x) for features x (b * frames, c, h, w), in windows; all at once without any.

    strength, motion_scale: see `FrameValues.at`.
    """
    if isinstance(strength, Tensor):
        return blend(x, in_windows(transformer, x, frames, windows, 1.0, motion_scale), strength)
    if not windows:
        return transformer(x, frames, strength, motion_scale)
    clips = x.unflatten(0, (-1, frames))
    # Summed in fp32 as weights and sums in 16 bits lose what the motion layer adds.
    fused = torch.zeros_like(clips, dtype=torch.float32)
    for window in windows:
        index = torch.tensor(window.frames, device=x.device)
        weights = torch.tensor(window.weights, device=x.device).view(-1, 1, 1, 1)
        scale = motion_scale[index] if isinstance(motion_scale, Tensor) else motion_scale
        part = transformer(clips[:, index].flatten(0, 1), len(index), strength, scale)
        fused.index_add_(1, index, part.unflatten(0, (-1, len(index))) * weights)
    return fused.to(x.dtype).flatten(0, 1)
