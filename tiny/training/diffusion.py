"""Noise added to latents for training and removed for samples, on the schedules of `motion_modules`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...motion_modules.schedule import (
    TRAIN_STEPS,
    LcmSampling,
    TableSampling,
    lcm_timesteps,
    linspace_timesteps,
    make_sampling,
    sigmas_at,
    sigmas_table,
)
from .networks import PATCH

MUCH_NOISE = 150.0  # most that a sample counts beside one without noise
SUBJECT_WEIGHT = 4.0
BRIGHT = 0.6  # all subjects are brighter, no background is
SNR_LIMIT = 5.0  # of min-SNR weights (Hang et al. 2023, arXiv 2303.09556)

# x of unit variance (n, ...), timesteps (n,) -> the noise in it
Denoiser = Callable[[Tensor, Tensor], Tensor]


def expand(values: Tensor, like: Tensor) -> Tensor:
    """(n,) to (n, 1, ...)."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def draw_timesteps(rng: torch.Generator, n: int, exponent: float = 1.0) -> Tensor:
    """(n,), one in each n-th of the range: less noise in the loss than by free draws. Below 1 the exponent favours late
    timesteps, those of much noise."""
    parts = (torch.rand(n, generator=rng) + torch.randperm(n, generator=rng)) / n
    return (parts**exponent * TRAIN_STEPS).long().clamp(max=TRAIN_STEPS - 1)


def draw_noise(rng: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=rng).to(like.device)


def add_noise(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """What the network is given: noised latents, scaled to unit variance."""
    sigma = expand(sigma, latents)
    return (latents + sigma * noise) / (1 + sigma**2).sqrt()


def noise_loss(predicted: Tensor, noise: Tensor, sigma: Tensor, weights: Tensor) -> Tensor:
    """Squared error of the noise. weights: (n, ..., 1, h, w), how much each place counts.

    As for networks that predict velocity, much noise counts for more: what is to be seen and where it goes is decided
    there, by errors that are tiny beside the noise. Little noise counts for less, as with min-SNR weights.
    """
    error = ((predicted.float() - noise).square() * weights).flatten(1).mean(1)
    return (error * (SNR_LIMIT * sigma**2).clamp(max=1.0) * (1 + sigma**2).clamp(max=MUCH_NOISE)).mean()


def subject_weights(pictures: Tensor) -> Tensor:
    """(..., 3, h, w) to (..., 1, h / PATCH, w / PATCH): places that the bright subject touches count more, 1 on average."""
    weights = 1 + SUBJECT_WEIGHT * bright_places(pictures)
    return weights / weights.mean()


def bright_places(pictures: Tensor) -> Tensor:
    """(..., 3, h, w) to (..., 1, h / PATCH, w / PATCH): 1 where the bright subject is, if only in part, 0 elsewhere."""
    touched = F.max_pool2d(is_bright(pictures).flatten(0, -4), PATCH)
    return touched.view(*pictures.shape[:-3], *touched.shape[-3:])


def is_bright(pictures: Tensor) -> Tensor:
    """(..., 3, h, w) to (..., 1, h, w): 1 where the subject is, 0 elsewhere."""
    return (pictures.amax(-3, keepdim=True) > BRIGHT).float()


def make_tables() -> dict[str, Tensor]:
    """Sigmas by timestep of SD1.5's own schedule and of the motion modules'."""
    return {name: sigmas_table(name) for name in ("linear", "sqrt_linear")}


def guide(denoiser: Denoiser, cfg: float) -> Denoiser:
    """Classifier-free guidance around a denoiser that takes a batch of the prompt's half, then the negative half."""

    def guided(x: Tensor, timesteps: Tensor) -> Tensor:
        positive, negative = denoiser(torch.cat([x, x]), torch.cat([timesteps, timesteps])).chunk(2)
        return negative + cfg * (positive - negative)

    return guided


def standard_sampling(steps: int, table: str = "sqrt_linear") -> tuple[TableSampling, Tensor]:
    """Schedule and (steps + 1,) sigmas of the sampler's standard mode; `linear` is SD1.5's own table."""
    sampling = make_sampling(sigmas_table(table), None)
    return sampling, sigmas_at(sampling, linspace_timesteps(steps))


def lcm_sampling(steps: int, original_steps: int = 100) -> tuple[TableSampling, Tensor]:
    """Schedule and (steps + 1,) sigmas of the sampler's lcm mode for AnimateLCM."""
    sampling = make_sampling(sigmas_table("sqrt_linear"), original_steps)
    return sampling, sigmas_at(sampling, lcm_timesteps(steps, original_steps))


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    sampling: TableSampling,
    sigmas: Tensor,
    shape: tuple[int, ...],
    rng: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Latents of `shape` out of noise: Euler's method, or consistency sampling on a consistency table."""
    x = torch.randn(shape, generator=rng).to(device) * (1 + sigmas[0] ** 2).sqrt()
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        batch_sigma = sigma.repeat(len(x)).to(device)
        noise = denoiser(x / (1 + sigma**2).sqrt(), sampling.timestep(batch_sigma).float())
        denoised = sampling.calculate_denoised(batch_sigma, noise.float(), x)
        if isinstance(sampling, LcmSampling):
            x = denoised + following * torch.randn(shape, generator=rng).to(device)
        else:
            x = denoised + (x - denoised) * (following / sigma)
    return x
