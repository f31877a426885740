"""Sampling a clip: which sampler, which noise levels, how many of the steps, guidance for how long."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import V_PREDICTION, ModelSamplingDiscrete

from .adapter import motion_config
from .families import Family
from .schedule import (
    TRAIN_STEPS,
    LcmSampling,
    TableSampling,
    last_steps,
    lcm_timesteps,
    linspace_timesteps,
    make_sampling,
    sigmas_at,
    trailing_timesteps,
)

log = logging.getLogger(__name__)

LCM_LORA_STEPS = 50
MODES = ("auto", "standard", "lcm", "lightning")
OWN_SCHEDULERS = ("linspace", "trailing", "lcm")
SAMPLERS = {"standard": "euler", "lcm": "lcm", "lightning": "euler"}
SCHEDULERS = {"standard": "linspace", "lcm": "lcm", "lightning": "trailing"}


@dataclass(frozen=True)
class SamplerSettings:
    """strength: the part of the steps that run, from the end. cfg_until: the part of those that use guidance."""

    seed: int
    steps: int
    cfg: float
    strength: float = 1.0
    mode: str = "auto"
    sampler_name: str = "auto"
    scheduler: str = "auto"
    cfg_until: float = 1.0


class CfgUntil(comfy.samplers.CFGGuider):
    """Guidance down to a noise level; below it only the conditional half runs."""

    def __init__(self, model: ModelPatcher, cfg: float, until_sigma: float) -> None:
        super().__init__(model)
        self.guided_cfg = cfg
        self.until_sigma = until_sigma  # negative: always, without asking the GPU

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None = None
    ) -> Tensor:
        guided = self.until_sigma < 0.0 or float(timestep.flatten()[0]) > self.until_sigma
        self.set_cfg(self.guided_cfg if guided else 1.0)
        return super().predict_noise(x, timestep, model_options, seed)


def mode_of(model: ModelPatcher) -> str:
    """The sampling mode that the model's schedule and motion module were made for."""
    config = motion_config(model)
    if isinstance(model.get_model_object("model_sampling"), LcmSampling):
        return "lcm"
    return "lightning" if config and config.family.lightning_steps is not None else "standard"


def with_sampling_for(model: ModelPatcher, mode: str) -> ModelPatcher:
    """The model with a schedule of the mode's kind on the same noise table; itself if it has one.

    A consistency table has the motion module's original steps, or LCM-LoRA's 50. A schedule that another node
    put there with a table of its own (core's ModelSamplingDiscrete set to lcm) is kept.
    """
    current = model.get_model_object("model_sampling")
    is_foreign = not isinstance(current, TableSampling) and len(current.sigmas) != TRAIN_STEPS
    if is_foreign or isinstance(current, LcmSampling) == (mode == "lcm"):
        return model
    config = motion_config(model)
    lcm_steps = None
    if mode == "lcm":
        lcm_steps = (config.family.lcm_steps if config else None) or LCM_LORA_STEPS
    table = current.train_sigmas if isinstance(current, TableSampling) else current.sigmas.cpu()
    patched = model.clone()
    is_velocity = isinstance(current, V_PREDICTION)
    patched.add_object_patch("model_sampling", make_sampling(table, lcm_steps, is_velocity))
    return patched


def make_sigmas(model: ModelPatcher, scheduler: str, steps: int) -> Tensor:
    """The noise levels of all steps, then 0: (steps + 1,).

    Errors: ValueError where the scheduler counts in timesteps and the model's schedule has none.
    """
    sampling = model.get_model_object("model_sampling")
    if scheduler in OWN_SCHEDULERS and not isinstance(sampling, ModelSamplingDiscrete):
        raise ValueError(
            f"Scheduler {scheduler} needs a schedule with timesteps, this model has {type(sampling).__name__}. "
            "Choose another scheduler, such as karras."
        )
    if scheduler == "linspace":
        return sigmas_at(sampling, linspace_timesteps(steps))
    if scheduler == "trailing":
        return sigmas_at(sampling, trailing_timesteps(steps))
    if scheduler == "lcm":
        original_steps = sampling.original_steps if isinstance(sampling, LcmSampling) else LCM_LORA_STEPS
        return sigmas_at(sampling, lcm_timesteps(steps, original_steps))
    return comfy.samplers.calculate_sigmas(sampling, scheduler, steps).cpu()


def sample(
    model: ModelPatcher, positive: list, negative: list, latent: dict, settings: SamplerSettings
) -> dict:
    """Samples the frames of `latent` as one clip; where no step runs, the latent comes back unchanged.

    Errors: ValueError where the latent is empty or holds NaN, or the result does.
    """
    latent_image = comfy.sample.fix_empty_latent_channels(
        model,
        latent["samples"],
        latent.get("downscale_ratio_spacial"),
        latent.get("downscale_ratio_temporal"),
    )
    _check_latent(latent_image)
    mode = mode_of(model) if settings.mode == "auto" else settings.mode
    _warn_of_mismatch(model, mode, settings)
    model = with_sampling_for(model, mode)
    scheduler = SCHEDULERS[mode] if settings.scheduler == "auto" else settings.scheduler
    sigmas = last_steps(make_sigmas(model, scheduler, settings.steps), settings.strength)
    steps = len(sigmas) - 1
    if steps == 0:
        return latent
    log.info("%d of %d steps, %s, %s", steps, settings.steps, mode, scheduler)
    guided_steps = round(steps * settings.cfg_until)
    guider = CfgUntil(
        model, settings.cfg, until_sigma=float(sigmas[guided_steps]) if guided_steps < steps else -1.0
    )
    guider.set_conds(positive, negative)
    samples = guider.sample(
        comfy.sample.prepare_noise(latent_image, settings.seed, latent.get("batch_index")),
        latent_image,
        comfy.samplers.sampler_object(
            SAMPLERS[mode] if settings.sampler_name == "auto" else settings.sampler_name
        ),
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=settings.seed,
    )
    _check_result(samples)
    samples = samples.to(
        comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype()
    )
    sizes_of_empty_latent = ("downscale_ratio_spacial", "downscale_ratio_temporal")
    return {key: value for key, value in latent.items() if key not in sizes_of_empty_latent} | {
        "samples": samples
    }


def _check_latent(latent_image: Tensor) -> None:
    if latent_image.shape[0] == 0:
        raise ValueError(
            "The latent has no frames. Check first_n_seconds and fps of the node that loads the video."
        )
    if not torch.isfinite(latent_image).all():
        raise ValueError(
            "The latent holds NaN or infinite values. Check the VAE that encoded it, or try --fp32-vae."
        )


def _check_result(samples: Tensor) -> None:
    broken = [i for i in range(samples.shape[0]) if not torch.isfinite(samples[i]).all()]
    if broken:
        raise ValueError(
            f"Sampling gave NaN or infinite values in {len(broken)} of {samples.shape[0]} frames, the first is "
            f"{broken[0]}. The weights may overflow in half precision: start ComfyUI with --fp32-unet to check, and "
            "try a LoRA or cfg less strong."
        )


def _warn_of_mismatch(model: ModelPatcher, mode: str, settings: SamplerSettings) -> None:
    config = motion_config(model)
    if config is None:
        return
    family: Family = config.family
    if mode == "lightning" and family.lightning_steps not in (None, 0, settings.steps):
        log.warning(
            "%s was distilled for %d steps, this run takes %d.",
            config.file_name,
            family.lightning_steps,
            settings.steps,
        )
    if mode != "standard" and settings.cfg > 3.0:
        log.warning(
            "cfg %g is high for %s: it was distilled without guidance; use 1 to 2.", settings.cfg, mode
        )
