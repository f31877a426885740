"""Sampling a clip: which sampler, which noise levels, how many of the steps, guidance for how long."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
from comfy.model_patcher import ModelPatcher

from .adapter import motion_config
from .control_windows import forget_batch
from .host_internals import CONTEXT_HANDLER, ModelSamplingDiscrete
from .sampler_settings import SamplerSettings, setting_warnings
from .sampling_run import check_is_clip, noise_level, warn_of_length
from .schedule import (
    TRAIN_STEPS,
    TableSampling,
    consistency_steps,
    describe_sampling,
    last_steps,
    lcm_timesteps,
    linspace_timesteps,
    make_sampling,
    prediction_of,
    sigmas_at,
    trailing_timesteps,
)
from .windows import WindowHandler

log = logging.getLogger(__name__)

LCM_LORA_STEPS = 50
MODES = ("auto", "standard", "lcm", "lightning")
OWN_SCHEDULERS = ("linspace", "trailing", "lcm")
SAMPLERS = {"standard": "euler", "lcm": "lcm", "lightning": "euler"}
SCHEDULERS = {"standard": "linspace", "lcm": "lcm", "lightning": "trailing"}


class CfgUntil(comfy.samplers.CFGGuider):
    """Guidance down to a noise level; below it only the conditional half runs."""

    def __init__(self, model: ModelPatcher, cfg: float, until_sigma: float) -> None:
        super().__init__(model)
        self.guided_cfg = cfg
        self.until_sigma = until_sigma  # negative: always, without waiting for the GPU

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: int | None = None
    ) -> Tensor:
        model_options = model_options or {}
        options = model_options.get("transformer_options", {})
        guided = self.until_sigma < 0.0 or noise_level(timestep, options) > self.until_sigma
        if not guided and self.cfg != 1.0:
            self._forget_batch(model_options.get(CONTEXT_HANDLER))
        self.set_cfg(self.guided_cfg if guided else 1.0)
        return super().predict_noise(x, timestep, model_options, seed)

    def _forget_batch(self, handler: object) -> None:
        for conditions in self.conds.values():
            for condition in conditions or ():
                forget_batch(condition.get("control"))
        if isinstance(handler, WindowHandler):
            handler.forget_controls()


def mode_of(model: ModelPatcher) -> str:
    """The sampling mode that the model's schedule and motion module were made for."""
    config = motion_config(model)
    if consistency_steps(model.get_model_object("model_sampling")):
        return "lcm"
    return "lightning" if config and config.family.lightning_steps is not None else "standard"


def with_sampling_for(model: ModelPatcher, mode: str) -> ModelPatcher:
    """The model with the mode's kind of schedule on the same noise table; the model itself if it has one.

    A consistency table has the motion module's original steps, or LCM-LoRA's 50. One that another node put there
    (core's ModelSamplingDiscrete set to lcm) is kept.

    Errors: ValueError for mode lcm on a model without timesteps, or one that does not predict noise.
    """
    current = model.get_model_object("model_sampling")
    has_consistency_table = consistency_steps(current) is not None
    is_foreign = has_consistency_table and not isinstance(current, TableSampling)
    if is_foreign or has_consistency_table == (mode == "lcm"):
        return model
    schedule = _with_timesteps(current, f"Mode {mode}")
    config = motion_config(model)
    lcm_steps = None
    if mode == "lcm":
        lcm_steps = (config.family.lcm_steps if config else None) or LCM_LORA_STEPS
    table = (
        schedule.train_sigmas if isinstance(schedule, TableSampling) else cast(Tensor, schedule.sigmas).cpu()
    )
    patched = model.clone()
    patched.add_object_patch(
        "model_sampling", make_sampling(table, lcm_steps, prediction_of(schedule), schedule.zsnr)
    )
    return patched


def make_sigmas(model: ModelPatcher, scheduler: str, steps: int, sampler_name: str = "euler") -> Tensor:
    """The noise levels of all steps, then 0: (steps + 1,).

    For the samplers that the host's KSampler spares the last level above 0 (dpm_2, uni_pc), it is left out here too,
    except where a distilled model has to be called at fixed timesteps.

    Errors: ValueError where the scheduler counts in timesteps and the model's schedule has none.
    """
    sampling = model.get_model_object("model_sampling")
    if scheduler == "trailing":
        return sigmas_at(_with_timesteps(sampling, "Scheduler trailing"), trailing_timesteps(steps))
    if scheduler == "lcm":
        timesteps = lcm_timesteps(steps, consistency_steps(sampling) or LCM_LORA_STEPS)
        return sigmas_at(_with_timesteps(sampling, "Scheduler lcm"), timesteps)
    is_last_spared = sampler_name in comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS
    levels = steps + 1 if is_last_spared else steps
    if scheduler == "linspace":
        sigmas = sigmas_at(_with_timesteps(sampling, "Scheduler linspace"), linspace_timesteps(levels))
    else:
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, levels).cpu()
    if not torch.isfinite(sigmas).all():
        raise ValueError(
            f"Scheduler {scheduler} has no noise levels for {levels} step. Use more steps, or another scheduler."
        )
    return torch.cat([sigmas[:-2], sigmas[-1:]]) if is_last_spared else sigmas


def _with_timesteps(sampling: object, what: str) -> ModelSamplingDiscrete:
    if isinstance(sampling, ModelSamplingDiscrete) and sampling.num_timesteps == TRAIN_STEPS:
        return sampling
    raise ValueError(
        f"{what} needs a schedule with timesteps, but this model's is {describe_sampling(sampling)}. Remove the "
        "ModelSampling node, or choose mode standard and a scheduler such as karras."
    )


def sample(
    model: ModelPatcher,
    positive: list,
    negative: list,
    latent: dict,
    settings: SamplerSettings,
    callback: Callable[[int, Tensor, Tensor, int], None] | None = None,
) -> dict:
    """Samples the frames of `latent` as one clip. If no step runs, the latent is returned unchanged.

    callback: called after each step with its number, the denoised frames, the noisy ones and the number of steps.

    Errors: ValueError if the latent has no frames or is a video model's, or if it or the result holds NaN.
    """
    latent_image = comfy.sample.fix_empty_latent_channels(
        model,
        latent["samples"],
        latent.get("downscale_ratio_spacial"),
        latent.get("downscale_ratio_temporal"),
    )
    _check_latent(latent_image)
    mode = mode_of(model) if settings.mode == "auto" else settings.mode
    model = with_sampling_for(model, mode)
    scheduler = SCHEDULERS[mode] if settings.scheduler == "auto" else settings.scheduler
    sampler_name = SAMPLERS[mode] if settings.sampler_name == "auto" else settings.sampler_name
    sigmas = last_steps(make_sigmas(model, scheduler, settings.steps, sampler_name), settings.strength)
    steps = len(sigmas) - 1
    log.info(
        "%d of %d steps, mode %s, sampler %s, scheduler %s",
        *(steps, settings.steps, mode, sampler_name, scheduler),
    )
    for warning in setting_warnings(motion_config(model), bool(model.patches), latent_image, mode, settings):
        log.warning(warning)
    if steps == 0:
        return latent
    mask = latent.get("noise_mask")
    if mask is not None:
        warn_of_length("noise masks", mask.shape[0] if mask.ndim > 2 else 1, len(latent_image))
    guided_steps = round(steps * settings.cfg_until)
    guider = CfgUntil(
        model, settings.cfg, until_sigma=float(sigmas[guided_steps]) if guided_steps < steps else -1.0
    )
    guider.set_conds(positive, negative)
    samples = guider.sample(
        comfy.sample.prepare_noise(latent_image, settings.seed, latent.get("batch_index")),
        latent_image,
        comfy.samplers.sampler_object(sampler_name),
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=callback,
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
    check_is_clip(latent_image)
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
            "try weaker LoRAs, a lower cfg or smaller weights in the prompt."
        )
