"""Clips drawn from the truth, for the judges of the tiny family to look at."""

from __future__ import annotations

import torch
from torch import Tensor

from fast_animatediff.tiny.domain.render import render
from fast_animatediff.tiny.domain.scenes import Attributes, draw_scenes, seeded

SIZE, FRAMES = 64, 16


def attributes_of(n: int, **values: int) -> Attributes:
    fields = ("shape", "colour", "size", "pattern", "tone", "motion", "speed")
    defaults = dict.fromkeys(fields, 0) | {"size": 1, "speed": 1} | values
    return Attributes(*(torch.full((n,), defaults[name]) for name in fields))


def truth(asked: Attributes, seed: object, axis: str | None = None, rate: float = 1.0) -> Tensor:
    scenes = draw_scenes(seeded("truth", seed), asked, FRAMES)
    frames = torch.arange(float(FRAMES)).expand(len(asked), -1)
    clips = render(scenes, frames, SIZE, axis, rate)
    return clips[0] if len(asked) == 1 else clips


def worsened(clip: Tensor, seed: int = 0) -> Tensor:
    """Blurred by two pixels and noisy, as a small model's pictures are."""
    noise = torch.randn(clip.shape, generator=seeded("noise", seed))
    blurred = torch.nn.functional.avg_pool2d(clip, 3, stride=1, padding=1, count_include_pad=False)
    return (blurred + 0.03 * noise).clamp(0, 1)
