"""Stage `rolls`: the motion LoRA for rolling once more and alone, on the motion module that `edits` left.

Rolling was hardest to learn: after `edits` the camera rolled in 28 of 32 clips of scenes that are not the score's (13 of 16
clockwise), after this in 30 (15 of 16).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .cameras import LORA, READOUTS, CameraStage, CameraStep, lora_file
from .edits import FILE as EDITS_FILE
from .edits import EditStage
from .loop import Plan
from .weights import save_whole

AXIS = "roll"


class RollStage(CameraStage):
    """Writes its one LoRA only. Readouts start anew and are not kept."""

    name, source_file, file = "rolls", EDITS_FILE, lora_file("rolls", AXIS)
    loras_from = EditStage.name

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        super().__init__(plan, seed, size, device, folder)
        self.module.requires_grad_(False)
        self.loras[AXIS].requires_grad_(True)  # its weights are in the module's layers

    def parameters(self) -> dict[str, Tensor]:
        parts = {f"{LORA}{AXIS}.": self.loras[AXIS], READOUTS: self.readouts}
        return {prefix + key: p for prefix, part in parts.items() for key, p in part.named_parameters()}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        return self.loss_of(step, CameraStep(AXIS, -1.0 if step % 2 else 1.0))

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        save_whole(self.loras[AXIS].file(), folder / self.file)
