"""Context windows in the motion layers alone: every other layer sees each frame of a clip once, not once per window.

An approximation, as in FreeNoise (arXiv 2310.15169): overlapping windows are mixed after each motion layer, instead of once,
after the UNet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from comfy.context_windows import IndexListContextHandler, get_context_weights


@dataclass(frozen=True)
class LayerWindow:
    """frames: of the clip. weights: how much each counts where windows overlap."""

    frames: tuple[int, ...]
    weights: tuple[float, ...]


class LayerWindowsHandler(IndexListContextHandler):
    """The host's handler for lengths, schedule and mixing; but the host's sampler passes the clip on in one piece."""

    def should_use_context(self, *arguments: Any) -> bool:
        return False

    def layer_windows(self, frames: int) -> tuple[LayerWindow, ...]:
        """The windows of a clip, the same at each step; none where it fits into one."""
        if frames <= self.context_length:
            return ()
        found = self.get_context_windows(None, torch.empty(frames, 0), {})
        return tuple(
            LayerWindow(tuple(window.index_list), self._weights(frames, window.index_list))
            for window in found
        )

    def _weights(self, frames: int, indices: list[int]) -> tuple[float, ...]:
        return tuple(map(float, get_context_weights(len(indices), frames, indices, self)))


def in_windows(
    transformer: Callable[[Tensor, int, float, float], Tensor],
    x: Tensor,
    frames: int,
    windows: tuple[LayerWindow, ...],
    strength: float,
    motion_scale: float,
) -> Tensor:
    """transformer(x) for features x (b * frames, c, h, w), in windows; all at once without any."""
    if not windows:
        return transformer(x, frames, strength, motion_scale)
    clips = x.unflatten(0, (-1, frames))
    mixed, total = torch.zeros_like(clips), torch.zeros(frames, dtype=x.dtype, device=x.device)
    for window in windows:
        index = torch.tensor(window.frames, device=x.device)
        weights = torch.tensor(window.weights, dtype=x.dtype, device=x.device)
        part = transformer(clips[:, index].flatten(0, 1), len(index), strength, motion_scale)
        mixed.index_add_(1, index, part.unflatten(0, (-1, len(index))) * weights.view(-1, 1, 1, 1))
        total.index_add_(0, index, weights)
    return (mixed / total.view(-1, 1, 1, 1)).flatten(0, 1)
