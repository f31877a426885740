"""Stage `vae`: a TAESD-layout autoencoder.

The decoder and a fast encoder learn to pass pictures through four numbers per 8x8 pixels. Meanwhile TAESD's encoder, which
is far slower, learns from half of the pictures what the fast one does.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from comfy.taesd.taesd import TAESD

from ..shipped import Weights
from .data import picture_batch
from .diffusion import draw_noise
from .loop import Plan
from .networks import PATCH, PatchEncoder
from .pictures import save_grid
from .weights import LATENT_SCALE, random_weights, save_whole, shapes_of

CROP = 64  # pixels; the networks see no farther than that
NOISE = 0.15  # added to latents, so that the decoder tolerates small errors of the UNet
FILE = "vae.safetensors"
FAST = "fast_encoder."


class VaeStage:
    name = "vae"

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device) -> None:
        self.plan, self.seed, self.size, self.device = plan, seed, size, device
        self.vae = TAESD()
        self.vae.load_state_dict(random_weights(f"{seed}/vae", shapes_of(self.vae)))
        self.fast = PatchEncoder()
        self.fast.load_state_dict(random_weights(f"{seed}/fast", shapes_of(self.fast)))
        self.vae.to(device, memory_format=torch.channels_last)
        self.fast.to(device, memory_format=torch.channels_last)

    def parameters(self) -> dict[str, Tensor]:
        parts = {"encoder": self.vae.taesd_encoder, "decoder": self.vae.taesd_decoder, "fast": self.fast}
        return {
            f"{part}.{key}": p for part, network in parts.items() for key, p in network.named_parameters()
        }

    def pictures(self, step: int) -> tuple[Tensor, torch.Generator]:
        """Crops of random scenes, (n, 3, CROP, CROP), and the step's generator."""
        whole, rng = picture_batch(self.seed, self.name, step, self.plan.batch, self.size, self.device)
        left, top = torch.randint(0, self.size - CROP + 1, (2,), generator=rng).tolist()
        crops = whole[..., top : top + CROP, left : left + CROP]
        return crops.contiguous(memory_format=torch.channels_last), rng

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        pictures, rng = self.pictures(step)
        some = pictures[: len(pictures) // 2]
        with torch.autocast(self.device.type, torch.bfloat16):
            latents = self.fast(pictures).float()
            noisy = latents + NOISE * draw_noise(rng, latents)
            decoded = self.vae.taesd_decoder(noisy).float()
            imitated = self.vae.taesd_encoder(some).float()
        picture_error = F.l1_loss(decoded, pictures)
        edge_error = F.l1_loss(decoded.diff(dim=-1), pictures.diff(dim=-1)) + F.l1_loss(
            decoded.diff(dim=-2), pictures.diff(dim=-2)
        )
        mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
        centring = mean.square().mean() + (spread - 1).square().mean()
        imitation = F.mse_loss(imitated, latents.detach()[: len(some)])
        loss = picture_error + 0.5 * edge_error + 0.02 * centring + 0.1 * imitation
        psnr = -10 * F.mse_loss(decoded.detach(), pictures).log10()
        return loss, {"psnr": psnr.item(), "imitation": imitation.item(), "spread": spread.mean().item()}

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        vae = self.vae.state_dict() | {
            "vae_scale": torch.tensor(LATENT_SCALE),
            "vae_shift": torch.tensor(0.0),
        }
        fast = {FAST + key: value for key, value in self.fast.state_dict().items()}
        save_whole(vae | fast, folder / FILE)

    @torch.no_grad()
    def save_samples(self, folder: Path) -> None:
        pictures, _ = picture_batch(self.seed, "vae samples", 0, 8, self.size, self.device, held_out=True)
        ways = [
            pictures,
            *(decode(self.vae, encode(pictures)) for encode in (self.fast, self.vae.taesd_encoder)),
        ]
        save_grid(folder / "vae.png", torch.stack(ways))


def decode(vae: TAESD, latents: Tensor) -> Tensor:
    """Latents (n, 4, h, w) as the UNet knows them to pictures (n, 3, 8h, 8w) in 0..1."""
    return vae.taesd_decoder(latents).clamp(0, 1)


def load_vae(folder: Path, device: torch.device) -> tuple[TAESD, PatchEncoder]:
    """The trained autoencoder and the fast encoder, frozen. Errors: FileNotFoundError where `vae` was not trained."""
    weights: Weights = load_file(folder / FILE)
    fast, vae = PatchEncoder(), TAESD()
    fast.load_state_dict({key.removeprefix(FAST): w for key, w in weights.items() if key.startswith(FAST)})
    vae.load_state_dict({key: w for key, w in weights.items() if not key.startswith(FAST)})
    return tuple(part.to(device).eval().requires_grad_(False) for part in (vae, fast))


@torch.no_grad()
def encode_fast(fast: PatchEncoder, pictures: Tensor) -> Tensor:
    """Pictures (n, ..., 3, h, w) to latents (n, ..., 4, h / 8, w / 8), fp32."""
    *many, _, height, width = pictures.shape
    with torch.autocast(pictures.device.type, torch.bfloat16):
        latents = fast(pictures.flatten(0, -4))
    return latents.float().view(*many, -1, height // PATCH, width // PATCH)
