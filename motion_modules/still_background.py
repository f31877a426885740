"""A picture that stands still where no motion module acts, while the rest of it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class StillBackground:
    """PREDICT_NOISE wrapper: where the mask is darker than half, all frames of a clip show one picture.

    There the model is shown the first such frame in place of each, and what it predicts is averaged over the frames: with
    noise of its own each would be another picture, and what moves beside it would shine through.

    mask (n, h, w): for all frames, or each; fewer are repeated. places: what it is for a clip, found once.
    """

    mask: Tensor
    places: dict[tuple, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, executor: Callable, x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        key = len(x), *x.shape[-2:], x.device
        if key not in self.places:
            self.places[key] = self._places(x)
        is_still, first = self.places[key]
        seen = torch.where(is_still, x.gather(0, first.expand_as(x[:1])), x)
        found = executor(seen, *arguments, **options)
        total = torch.where(is_still, found, 0).sum(dim=0, keepdim=True)
        return torch.where(is_still, total / is_still.sum(dim=0, keepdim=True).clamp(min=1), found)

    def _places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where each frame stands still, (f, 1, h, w), and the first frame that does, (1, 1, h, w)."""
        # Of each place of the latent the darkest: what is black stands still up to its edge.
        darkest = -F.adaptive_max_pool2d(-self.mask[:, None].float(), x.shape[-2:])
        is_still = (darkest < 0.5)[[frame % len(self.mask) for frame in range(len(x))]].to(x.device)
        return is_still, is_still.float().argmax(dim=0, keepdim=True)
