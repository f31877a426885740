"""What the tiny ControlNet is told of a picture."""

from __future__ import annotations

import torch
from torch.nn.functional import max_pool2d

from fast_animatediff.tiny.domain.edges import edges_of
from fast_animatediff.tiny.domain.render import render
from fast_animatediff.tiny.domain.scenes import draw_attributes, draw_scenes, seeded


def test_the_outlines_of_subjects_are_seen_before_backgrounds_as_bright_as_they_are() -> None:
    rng = seeded("edges")
    scenes = draw_scenes(rng, draw_attributes(rng, 100), 16)
    pictures = render(scenes, torch.zeros(100, 1), 64)[:, 0]
    subject = (pictures.amax(1, keepdim=True) > 0.6).float()
    outline = max_pool2d(subject, 3, 1, 1) - subject
    seen = outline * max_pool2d(edges_of(pictures)[:, :1], 3, 1, 1)
    shares = seen.sum((1, 2, 3)) / outline.sum((1, 2, 3))
    assert shares.mean() > 0.9  # thresholds of 0.1 and 0.2 see three quarters
