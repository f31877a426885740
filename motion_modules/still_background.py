"""A picture that stands still where no motion module acts, while the rest of it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class StillBackground:
    """PREDICT_NOISE wrapper: where the mask is black, all frames of a clip show one picture.

    There the model is shown the first black frame in place of each, and what it predicts is averaged over the frames: with
    noise of its own each would be another picture, and what moves beside it would shine through. Where the mask is grey the
    average is blended with what is predicted for each frame.

    mask (n, h, w): for all frames, or each; fewer are repeated.
    """

    mask: Tensor

    def __call__(self, executor: Callable, x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        # Of each place of the latent the darkest: what is black stands still up to its edge.
        darkest = -F.adaptive_max_pool2d(-self.mask[:, None].float(), x.shape[-2:])
        moving = darkest.to(x)[[frame % len(self.mask) for frame in range(len(x))]]  # (f, 1, h, w)
        first = (moving == 0).float().argmax(dim=0, keepdim=True).expand_as(x[:1])
        found = executor(torch.where(moving == 0, x.gather(0, first), x), *arguments, **options)
        share = 1 - moving
        still = (found * share).sum(dim=0, keepdim=True) / share.sum(dim=0, keepdim=True).clamp(min=1e-6)
        return torch.lerp(still.expand_as(found), found, moving)
