"""What a person asks of a motion module, and what to warn about in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from .frame_values import FrameValues
from .lora import MotionLora

HIGHEST_MOTION_SCALE = 2.0

# Names of the beta schedules that Apply Motion Module offers: (table, original steps of a consistency table).
BETA_SCHEDULES: dict[str, tuple[str, int | None]] = {
    "sqrt_linear (AnimateDiff)": ("sqrt_linear", None),
    "linear (SD1.5)": ("linear", None),
    "lcm 100 (AnimateLCM)": ("sqrt_linear", 100),
    "lcm 50 (LCM-LoRA)": ("sqrt_linear", 50),
    "lcm 50 linear (AnimateDiff-Evolved)": ("linear", 50),
}


@dataclass(frozen=True)
class MotionSettings:
    """motion_scale: factor on the attention keys. cpu_bf16: computes in bf16 on a CPU made for it.

    strength, motion_scale: a number, or one for each frame. mask (n, h, w): where the module acts, for all frames or each.
    still_background: where the mask is black, all frames show one picture. fused_kernels: on a GPU, Triton's where they are
    faster.
    """

    strength: float | Sequence[float] = 1.0
    motion_scale: float | Sequence[float] = 1.0
    beta_schedule: str = "auto"
    start_percent: float = 0.0
    end_percent: float = 1.0
    loras: tuple[MotionLora, ...] = ()
    cpu_bf16: bool = False
    mask: Tensor | None = None
    still_background: bool = False
    fused_kernels: bool = False

    def strengths(self) -> FrameValues:
        """Errors: as `FrameValues.make`."""
        return FrameValues.make("strength", self.strength, 1.0, self.mask)

    def motion_scales(self) -> FrameValues:
        """Errors: as `FrameValues.make`."""
        return FrameValues.make("motion_scale", self.motion_scale, HIGHEST_MOTION_SCALE)


def motion_warnings(settings: MotionSettings) -> Iterator[str]:
    """Warnings about settings that run but hardly give what was meant, each with what to do."""
    if settings.start_percent >= settings.end_percent:
        yield (
            f"start_percent {settings.start_percent:g} is not before end_percent {settings.end_percent:g}: the motion "
            "module never acts."
        )
    if settings.still_background and settings.mask is None:
        yield "still_background has no effect without a mask: connect one that is black where the picture stands still."
