"""A closed loop that fits into one window, shown on the trained tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import comfy.sd
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.checkpoint import load_motion_module
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
from fast_animatediff.motion_modules.sampling import sample
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows
from fast_animatediff.tiny.shipped import CHECKPOINT, MOTION_MODULE

FRAMES, SIZE = 16, 8  # latents of 64x64


@pytest.mark.slow
def test_the_step_from_the_last_frame_to_the_first_is_no_larger_than_the_others(
    tiny_family: None, models: Path
) -> None:
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(models / CHECKPOINT))
    applied = apply_motion_module(model, load_motion_module(str(models / MOTION_MODULE)))
    conds = [
        clip.encode_from_tokens_scheduled(clip.tokenize(text))
        for text in ("a red circle moving left on a blue background", "")
    ]
    latent = {"samples": torch.zeros(FRAMES, 4, SIZE, SIZE)}

    def seam(closed_loop: bool) -> float:
        """The step over the seam as a multiple of the median step."""
        looped = set_windows(applied, make_windows(WindowSettings(16, 4, closed_loop=closed_loop)))
        settings = SamplerSettings(seed=3, steps=16, cfg=4.0)
        found = sample(looped, conds[0], conds[1], latent, settings)["samples"]
        steps = (found.roll(-1, 0) - found).flatten(1).norm(dim=1)
        return float(steps[-1] / steps.median())

    plain, looped = seam(False), seam(True)
    assert looped <= 1.0 < plain
