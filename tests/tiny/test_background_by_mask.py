"""A background held still by a mask while the camera moves, shown on the trained tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import comfy.sd
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.checkpoint import load_motion_module
from fast_animatediff.motion_modules.lora import load_motion_lora
from fast_animatediff.motion_modules.motion_settings import MotionSettings
from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
from fast_animatediff.motion_modules.sampling import sample
from fast_animatediff.tiny.domain.captions import plain_caption
from fast_animatediff.tiny.domain.scenes import before_textures, draw_attributes, seeded
from fast_animatediff.tiny.domain.subjects import find_subject
from fast_animatediff.tiny.shipped import CHECKPOINT, MOTION_LORA_OF, MOTION_MODULE

FRAMES, SIZE = 16, 8  # latents of 64x64
CLIPS = 3  # 16 at 25 steps were measured once: tiny/README.md
AROUND = 5  # pixels around the subject that a person would paint white, too


@pytest.mark.slow
@torch.no_grad()
def test_behind_a_mask_the_background_moves_a_fifth_at_most_of_what_the_camera_moves_it(
    tiny_family: None, models: Path
) -> None:
    model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(models / CHECKPOINT))
    module = load_motion_module(str(models / MOTION_MODULE))
    pan = load_motion_lora(str(models / MOTION_LORA_OF["PanLeft"]), 1.0)
    rng = seeded("score", "camera")
    scenes = before_textures(rng, draw_attributes(rng, CLIPS, held_out=True))

    def made(number: int, settings: MotionSettings) -> Tensor:
        """(f, 3, h, w) in 0..1."""
        conds = [
            clip.encode_from_tokens_scheduled(clip.tokenize(text))
            for text in (plain_caption(scenes.at(number), 0), "")
        ]
        applied = apply_motion_module(model, module, settings)
        latent = {"samples": torch.zeros(FRAMES, 4, SIZE, SIZE)}
        found = sample(
            applied, conds[0], conds[1], latent, SamplerSettings(seed=2000 + number, steps=12, cfg=7.5)
        )
        return vae.decode(found["samples"]).movedim(-1, 1).clamp(0, 1)

    def drift(frames: Tensor, mask: Tensor) -> float:
        """Mean distance from the median frame, where the mask is black."""
        return float((frames - frames.median(0).values).abs().mean(1)[:, mask == 0].mean())

    held, panned = [], []
    for number in range(CLIPS):
        subject = torch.from_numpy(find_subject(made(number, MotionSettings())).mask).float().amax(0)
        mask = F.max_pool2d(subject[None], 2 * AROUND + 1, 1, AROUND)[0]
        panned.append(drift(made(number, MotionSettings(loras=(pan,))), mask))
        settings = MotionSettings(loras=(pan,), mask=mask[None], still_background=True)
        held.append(drift(made(number, settings), mask))
    assert sum(held) <= 0.2 * sum(panned)
