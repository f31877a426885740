"""Weights that the templates name and the tiny family lacks, untrained: for runs whose pictures nobody looks at."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

import comfy.ops
from comfy.cldm.cldm import ControlNet
from comfy_extras.frame_interpolation_models.film_net import FILMNet
from fast_animatediff.tiny.extension.family import HEADS, UNET

CONTROLNET = "controlnet/control_v11p_sd15_canny_fp16.safetensors"
INTERPOLATION = "frame_interpolation/film_net_fp16.safetensors"


def write_untrained(models: Path) -> None:
    """Writes what is missing of the two in a models folder."""
    skipped = ("out_channels", "transformer_depth_output")
    config = {key: value for key, value in UNET.items() if key not in skipped} | HEADS
    operations = comfy.ops.disable_weight_init
    for name, make in {
        CONTROLNET: lambda: ControlNet(**config, hint_channels=3, device="cpu", operations=operations),
        INTERPOLATION: FILMNet,
    }.items():
        path = models / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            generator = torch.Generator().manual_seed(0)
            shapes = make().state_dict().items()
            weights = {
                key: torch.randn(value.shape, generator=generator).mul_(0.02).half() for key, value in shapes
            }
            save_file(weights, path)
