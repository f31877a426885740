"""Noise schedules and timesteps: beta schedules as host sampling objects, timesteps as diffusers spaces them.

Names follow ComfyUI: `sqrt_linear` is what diffusers calls `linear` and what SD1.5 motion modules were trained
with; `linear` is diffusers' `scaled_linear`, the schedule of SD1.5 itself.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from .host_internals import (
    EDM,
    EPS,
    IMG_TO_IMG,
    V_PREDICTION,
    X0,
    ModelSamplingDiscrete,
    rescale_zero_terminal_snr_sigmas,
)

TRAIN_STEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012
LCM_SIGMA_DATA = 0.5
LCM_TIMESTEP_SCALING = 10.0


def sigmas_table(beta_schedule: str) -> Tensor:
    """The 1000 noise levels of a beta schedule, `sqrt_linear` or `linear`, ascending, fp32."""
    if beta_schedule == "sqrt_linear":
        betas = torch.linspace(BETA_START, BETA_END, TRAIN_STEPS, dtype=torch.float64)
    elif beta_schedule == "linear":
        betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float64) ** 2
    else:
        raise ValueError(f"Unknown beta schedule '{beta_schedule}': expected 'sqrt_linear' or 'linear'.")
    alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
    return ((1.0 - alphas_cumprod) / alphas_cumprod).sqrt().float()


class TableSampling(ModelSamplingDiscrete):
    """Discrete sampling over a table of noise levels, held as plain attributes instead of buffers.

    Under dynamic VRAM the host backs up buffers by their path and restores them into whichever object is there
    next (Comfy-Org/ComfyUI issue 16490), so a patched schedule could end up in the base model and vice versa.
    """

    def __init__(self, table: Tensor, zsnr: bool = False) -> None:
        nn.Module.__init__(self)
        self.train_sigmas = table
        self.num_timesteps = len(table)
        self.linear_start, self.linear_end, self.zsnr = BETA_START, BETA_END, zsnr
        self.sigma_data = 1.0
        self.set_sigmas(table)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Does nothing: the host restores another object's table by calling this (issue 16490, above)."""

    def set_sigmas(self, sigmas: Tensor) -> None:
        self.sigmas = sigmas.float()
        self.log_sigmas = self.sigmas.log()

    def timestep(self, sigma: Tensor) -> Tensor:
        """The nearest entry's timestep, looked up on sigma's device so that the GPU need not be waited for."""
        distance = sigma.log() - self.log_sigmas.to(sigma.device, non_blocking=True)[:, None]
        return distance.abs().argmin(dim=0).view(sigma.shape)


class EpsSampling(TableSampling, EPS):
    """The model predicts the noise."""


class VelocitySampling(TableSampling, V_PREDICTION):
    """The model predicts the velocity."""


class CleanSampling(TableSampling, X0):
    """The model predicts the clean latent."""


class LcmSampling(TableSampling, EPS):
    """Consistency sampling (Luo et al. 2023, arXiv 2310.04378) on every n-th of the training timesteps.

    Boundary scaling as in diffusers' LCMScheduler, which applies it to the variance-preserving sample.
    """

    def __init__(self, table: Tensor, original_steps: int, zsnr: bool = False) -> None:
        self.stride = len(table) // original_steps
        super().__init__(table, zsnr)

    def set_sigmas(self, sigmas: Tensor) -> None:
        super().set_sigmas(sigmas[self.stride - 1 :: self.stride])

    def timestep(self, sigma: Tensor) -> Tensor:
        return super().timestep(sigma) * self.stride + (self.stride - 1)

    def sigma(self, timestep: Tensor) -> Tensor:
        return super().sigma((timestep.float() - (self.stride - 1)) / self.stride)

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        timestep = self.timestep(sigma).view(sigma.shape[:1] + (1,) * (model_output.ndim - 1))
        sigma = sigma.view(sigma.shape[:1] + (1,) * (model_output.ndim - 1))
        scaled = timestep * LCM_TIMESTEP_SCALING
        c_skip = LCM_SIGMA_DATA**2 / (scaled**2 + LCM_SIGMA_DATA**2)
        c_out = scaled / (scaled**2 + LCM_SIGMA_DATA**2) ** 0.5
        return c_out * (model_input - model_output * sigma) + c_skip * model_input / (sigma**2 + 1.0) ** 0.5


SAMPLING_OF: dict[type, type[TableSampling]] = {
    EPS: EpsSampling,
    V_PREDICTION: VelocitySampling,
    X0: CleanSampling,
}


def describe_sampling(sampling: object) -> str:
    """The host's names for what a sampling object is made of; its own class is `ModelSampling` for all models."""
    return " with ".join(base.__name__ for base in type(sampling).__bases__)


def prediction_of(sampling: object) -> type:
    """What the model predicts under a host sampling object: EPS (noise), V_PREDICTION (velocity) or X0 (clean latent).

    Errors: ValueError for any other prediction (flow, EDM, image to image), which no motion module was trained with.
    """
    host_kinds = (*SAMPLING_OF, EDM, IMG_TO_IMG)  # the last two are subclasses of the others
    kind = next((base for base in type(sampling).__mro__ if base in host_kinds), type(sampling))
    if kind not in SAMPLING_OF:
        raise ValueError(
            "Motion modules need a model that predicts noise, velocity or the clean latent (eps, v_prediction, x0); "
            f"this model's sampling is {describe_sampling(sampling)}. "
            "Remove the ModelSampling node, or set it to one of these."
        )
    return kind


def consistency_steps(sampling: object) -> int | None:
    """The original steps of a consistency table, ours, core's or another pack's; None for any other schedule."""
    if not isinstance(sampling, ModelSamplingDiscrete):
        return None
    levels = cast(Tensor, sampling.sigmas).numel()
    return levels if levels < sampling.num_timesteps else None


def make_sampling(
    table: Tensor, lcm_steps: int | None, prediction: type = EPS, zsnr: bool = False
) -> TableSampling:
    """The sampling object of a schedule.

    Args:
        lcm_steps: original steps of a consistency table, None for ordinary sampling.
        zsnr: whether the table ends at zero terminal SNR.

    Errors: ValueError for a consistency table on a model that does not predict noise; none was distilled that way.
    """
    if lcm_steps is None:
        return SAMPLING_OF[prediction](table, zsnr)
    if prediction is not EPS:
        name = "velocity (v_prediction)" if prediction is V_PREDICTION else "the clean latent (x0)"
        raise ValueError(f"This model predicts {name}, but lcm sampling needs one that predicts noise (eps).")
    return LcmSampling(table, lcm_steps, zsnr)


def sampling_like(current: object, beta_schedule: str, lcm_steps: int | None) -> TableSampling:
    """The sampling object of another schedule for a model that keeps its prediction and zero terminal SNR.

    Errors: as `prediction_of` and `make_sampling`.
    """
    table, zsnr = sigmas_table(beta_schedule), getattr(current, "zsnr", False)
    if zsnr:
        table = rescale_zero_terminal_snr_sigmas(table)
    return make_sampling(table, lcm_steps, prediction_of(current), zsnr)


def linspace_timesteps(steps: int) -> np.ndarray:
    """From 999 down to 0, evenly, as in diffusers' DDIM and Euler under `linspace`.

    One step is [999]; diffusers' [0] would remove no noise.
    """
    if steps == 1:
        return np.array([TRAIN_STEPS - 1])
    return np.linspace(0, TRAIN_STEPS - 1, steps).round()[::-1]


def trailing_timesteps(steps: int) -> np.ndarray:
    """999 and below, as in diffusers under `trailing`: 4 steps are 999, 749, 499, 249."""
    return np.arange(TRAIN_STEPS, 0, -TRAIN_STEPS / steps)[:steps].round() - 1


def lcm_timesteps(steps: int, original_steps: int) -> np.ndarray:
    """Evenly spaced entries of the consistency table, as in diffusers' LCMScheduler: 4 of 50 are 999, 759, 499, 259."""
    if steps > original_steps:
        raise ValueError(
            f"{steps} steps are more than the {original_steps} of this LCM schedule; use 4 to 12."
        )
    stride = TRAIN_STEPS // original_steps
    table = np.arange(1, original_steps + 1)[::-1] * stride - 1
    return table[np.floor(np.linspace(0, original_steps, steps, endpoint=False)).astype(int)]


def sigmas_at(sampling: ModelSamplingDiscrete, timesteps: np.ndarray) -> Tensor:
    """The noise levels at the timesteps, followed by 0: (steps + 1,)."""
    levels = sampling.sigma(torch.from_numpy(timesteps.copy()).float())
    return torch.cat([levels, torch.zeros(1)])


def last_steps(sigmas: Tensor, strength: float) -> Tensor:
    """The part of (steps + 1,) sigmas that `strength` runs: int(steps * strength) steps, as in diffusers.

    25 steps at 0.7 leave 17, the first at timestep 666.
    """
    steps = len(sigmas) - 1
    return sigmas[steps - min(int(steps * strength), steps) :]
