"""What every contender is asked to do, in terms that none of them owns: sizes, noise levels, noise, conditioning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LATENT_PIXELS = 8
LATENT_SCALE = 0.18215
TOKENS, TOKEN_CHANNELS = 77, 768
TRAIN_STEPS = 1000
FPS, CRF = 8, 18  # of the mp4 that everyone writes


@dataclass(frozen=True)
class Size:
    """An SD1.5 of another width. model_channels: of the finest level; the levels have 1, 2, 4 and 4 times as many."""

    name: str
    model_channels: int
    heads: int  # of the spatial attention; the motion modules have 8
    vae_channels: int

    @property
    def channels(self) -> tuple[int, int, int, int]:
        m = self.model_channels
        return m, 2 * m, 4 * m, 4 * m


# Head widths of small are 32, 64 and 128, as near to SD1.5's 40, 80 and 160 as a narrow UNet comes.
SIZES = {
    size.name: size for size in (Size("full", 320, 8, 128), Size("small", 64, 2, 32), Size("test", 32, 1, 32))
}


@dataclass(frozen=True)
class Job:
    """One clip. width and height in pixels; strength below 1 starts from the clip of `latent_of_clip`.

    layer_windows: this pack may window its motion layers alone, as diffusers' FreeNoise does.
    """

    frames: int = 16
    width: int = 512
    height: int = 512
    steps: int = 8
    cfg: float = 7.5
    strength: float = 1.0
    seed: int = 0
    layer_windows: bool = False

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        return self.frames, 4, self.height // LATENT_PIXELS, self.width // LATENT_PIXELS


def train_sigmas() -> Tensor:
    """Noise levels of the 1000 training steps of SD1.5 motion modules, betas linspace(0.00085, 0.012)."""
    betas = torch.linspace(0.00085, 0.012, TRAIN_STEPS, dtype=torch.float64)
    kept = torch.cumprod(1 - betas, dim=0)
    return ((1 - kept) / kept).sqrt().float()


def trailing_timesteps(steps: int) -> list[int]:
    """999 and below, as diffusers under `trailing`."""
    return [round(TRAIN_STEPS - k * TRAIN_STEPS / steps) - 1 for k in range(steps)]


def trailing_sigmas(steps: int) -> Tensor:
    return torch.cat([train_sigmas()[trailing_timesteps(steps)], torch.zeros(1)])


def noise(job: Job) -> Tensor:
    """What the host draws for a seed, and what diffusers is given: (f, 4, h, w), fp32, on the CPU."""
    return torch.randn(job.latent_shape, generator=torch.Generator().manual_seed(job.seed))


def conditions() -> tuple[Tensor, Tensor]:
    """Stand-ins for the encoded prompt and negative prompt: (1, 77, 768) each."""
    generator = torch.Generator().manual_seed(1)
    positive, negative = torch.randn(2, 1, TOKENS, TOKEN_CHANNELS, generator=generator)
    return positive, negative


def clip(job: Job) -> Tensor:
    """A video to re-animate: (f, height, width, 3) in 0..1."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(1, 3, 4, 8, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, (job.height, job.width + job.frames), mode="bicubic")
    frames = [wide[0, :, :, k : k + job.width] for k in range(job.frames)]
    return torch.stack(frames).movedim(1, -1).clamp(0, 1)


def relative_error(value: Tensor, reference: Tensor) -> float:
    """The norm of the difference over that of the reference."""
    difference = (value.double() - reference.double()).norm() / reference.double().norm()
    return difference.item()
