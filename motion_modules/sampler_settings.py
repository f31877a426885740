"""What a person asks the sampler for, and what to warn about in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .model import MotionModuleConfig

HIGHEST_TURBO_CFG = 3.0


@dataclass(frozen=True)
class SamplerSettings:
    """strength: the fraction of the steps that run, the last ones. cfg_until: the fraction of those with guidance."""

    seed: int
    steps: int
    cfg: float
    strength: float = 1.0
    mode: str = "auto"
    sampler_name: str = "auto"
    scheduler: str = "auto"
    cfg_until: float = 1.0


def setting_warnings(
    config: MotionModuleConfig | None,
    has_loras: bool,
    latent_image: Tensor,
    mode: str,
    settings: SamplerSettings,
) -> Iterator[str]:
    """Warnings about settings that run but hardly give what was meant, each with what to do.

    Args:
        config: of the model's motion module, None where it has none.
        has_loras: whether the image model has any weight patches.
        latent_image: (frames, 4, h, w).
        mode: the mode that runs, not auto.
    """
    steps, strength = settings.steps, settings.strength
    if strength > 0.0 and int(steps * strength) == 0:
        yield (
            f"No step runs: {steps} {'step' if steps == 1 else 'steps'} at strength {strength:g} make less than one, so "
            f"the latent is returned unchanged. Use at least {math.ceil(1 / strength)} steps, or strength "
            f"{math.ceil(100 / steps) / 100:g}."
        )
    if strength < 1.0 and not latent_image.any():
        yield f"The latent is empty, so strength {strength:g} starts from grey. Set strength to 1."
    if config is None:
        if len(latent_image) > 1:
            yield (
                "This model has no motion module: the frames are generated independently. Connect Apply Motion Module "
                "(or enable it, if it is bypassed)."
            )
    else:
        yield from _warnings_of_module(config, has_loras, mode, steps)
    if mode != "standard" and settings.cfg > HIGHEST_TURBO_CFG:
        yield f"cfg {settings.cfg:g} is high for mode {mode}, which is distilled without guidance. Use 1 to 2."


def _warnings_of_module(config: MotionModuleConfig, has_loras: bool, mode: str, steps: int) -> Iterator[str]:
    family, name = config.family, config.file_name
    if mode == "lightning" and family.lightning_steps is None:
        yield f"{name} is {family.name}, not distilled for mode lightning. Set mode to auto."
    if mode == "lightning" and family.lightning_steps not in (None, 0, steps):
        yield f"{name} was distilled for {family.lightning_steps} steps, this run takes {steps}."
    if mode == "lcm" and family.lightning_steps is not None:
        yield f"{name} is {family.name}, not distilled for mode lcm. Set mode to auto."
    elif mode == "lcm" and not has_loras:
        lora = "AnimateLCM's LoRA" if family.lcm_steps else "LCM-LoRA"
        yield (
            f"Mode lcm needs a distilled image model, and this one has no LoRA. Load {lora} on it, unless the "
            "checkpoint is an LCM one."
        )
