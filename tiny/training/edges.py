"""Stage `edges`: an edge ControlNet, in the form of a Control-LoRA, on the UNet and text encoder that `places` left.

It learns from single frames, as published ControlNets do, and works in clips because the motion module stays where it is, in
the UNet. A Control-LoRA holds what differs from the UNet's own encoder: low-rank changes to its layers, and the parts that the
encoder lacks, which are the hint's block and the zero convolutions. A whole ControlNet would be 7 MB, this is 3.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import comfy.ops
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD

from ..domain.captions import host_tokens, plain_caption
from ..domain.edges import LOW, edges_of
from ..domain.scenes import draw_attributes, seeded
from ..extension.family import HEADS, UNET
from ..shipped import Weights
from .data import PICTURES_PER_CAPTION, captioned_pictures
from .diffusion import (
    add_noise,
    draw_noise,
    draw_timesteps,
    guide,
    make_tables,
    noise_loss,
    sample,
    standard_sampling,
    subject_weights,
)
from .images import CFG, PLACES_FILE, load_images, prompt_context
from .loop import Plan
from .low_rank import LowRankSet
from .networks import PATCH, unet_options
from .pictures import save_grid
from .vae import FAST, decode
from .vae import FILE as VAE
from .weights import random_weights, save_whole, shapes_of

FILE = "edges.safetensors"
RANK = 16
OWN = (
    "input_hint_block.",
    "zero_convs.",
    "middle_block_out.",
)  # what the UNet's encoder has no counterpart of
HIGHEST = 0.1  # of the low thresholds of its hints' edges, of which LOW is the least
LATE = 0.7  # favours timesteps of much noise, where is decided what is to be seen where


class EdgeStage:
    """Pictures are encoded by the checkpoint's own encoder, so that `restore` need not train the fast one first."""

    name, file = "edges", FILE

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        self.plan, self.seed, self.size, self.device = plan, seed, size, device
        self.vae = TAESD().to(device).eval().requires_grad_(False)
        weights = load_file(folder / VAE)
        self.vae.load_state_dict({key: w for key, w in weights.items() if not key.startswith(FAST)})
        self.tokens = host_tokens()
        self.unet, self.text = load_images(folder / PLACES_FILE, self.tokens, device)
        self.control = make_control(self.unet, f"{seed}/{self.name}").to(device)
        self.lora = LowRankSet(
            self.control, changed_layers(self.control), RANK, seeded(seed, self.name, "lora")
        )
        self.lora.to(device)
        self.sigmas = {name: table.to(device) for name, table in make_tables().items()}

    def parameters(self) -> dict[str, Tensor]:
        own = {key: p for key, p in self.control.named_parameters() if key.startswith(OWN)}
        return own | {f"lora.{key}": p for key, p in self.lora.named_parameters()}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        batch = captioned_pictures(self.seed, self.name, step, self.plan.batch, self.size, self.device)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            latents = self.vae.taesd_encoder(batch.pictures).float()
            context = self.text(self.tokens(batch.captions).to(self.device))
        noise = draw_noise(batch.rng, latents)
        timesteps = draw_timesteps(batch.rng, len(latents), LATE).to(self.device)
        own = (torch.rand(len(latents), generator=batch.rng) < 0.5).to(self.device)
        sigma = torch.where(own, self.sigmas["linear"][timesteps], self.sigmas["sqrt_linear"][timesteps])
        low = LOW * (HIGHEST / LOW) ** torch.rand(1, generator=batch.rng).item()
        predicted = self.denoise(
            add_noise(latents, noise, sigma),
            timesteps,
            context.repeat_interleave(PICTURES_PER_CAPTION, 0),
            edges_of(batch.pictures, low),
        )
        error = noise_loss(predicted, noise, sigma, subject_weights(batch.pictures))
        high = sigma > 4
        far = (predicted[high].float() - noise[high]).square().mean()
        return error, {"noise": error.item(), "noise_at_high_sigma": far.item()}

    def denoise(self, x: Tensor, timesteps: Tensor, context: Tensor, hint: Tensor) -> Tensor:
        """The noise in x (n, 4, h, w), by context (n, 77, 128) and hint (n, 3, 8h, 8w)."""
        with torch.autocast(self.device.type, torch.bfloat16):
            control = self.control(x, hint, timesteps, context)
            options = unet_options(x.device)
            return self.unet(x, timesteps, context, control=control, transformer_options=options)

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        save_whole(self.control_lora(), folder / self.file)

    def control_lora(self) -> Weights:
        """Under the names by which the host knows a Control-LoRA."""
        weights = {key: p for key, p in self.control.named_parameters() if key.startswith(OWN)}
        for name, (down, up) in self.lora.weights().items():
            weights |= {f"{name}.down": down, f"{name}.up": up}
        return weights | {"lora_controlnet": torch.zeros(0)}

    @torch.no_grad()
    def save_samples(self, folder: Path) -> None:
        """Held-out pictures, their edges, and what is made from those and another colour's caption."""
        n, side = 8, self.size // PATCH
        batch = captioned_pictures(
            self.seed, "edge samples", 0, n * PICTURES_PER_CAPTION, self.size, self.device
        )
        pictures = batch.pictures[::PICTURES_PER_CAPTION]
        hints = edges_of(pictures)
        asked = draw_attributes(seeded(self.seed, "edge samples asked"), n, held_out=True)
        captions = [plain_caption(asked, i) for i in range(n)]
        context = prompt_context(self.text, self.tokens, captions, self.device)
        sampling, sigmas = standard_sampling(25, "linear")
        latents = sample(
            guide(lambda x, t: self.denoise(x, t, context, torch.cat([hints, hints])), CFG),
            sampling,
            sigmas,
            (n, 4, side, side),
            seeded(self.seed, "edge noise"),
            self.device,
        )
        save_grid(folder / f"{self.name}.png", torch.stack([pictures, hints, decode(self.vae, latents)]))
        (folder / f"{self.name}.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")


def make_control(unet: UNetModel, seed: str) -> ControlNet:
    """A ControlNet whose encoder is the UNet's, frozen, and that changes nothing yet."""
    config = {key: value for key, value in UNET.items() if key != "out_channels"}
    control = ControlNet(
        **config, **HEADS, hint_channels=3, device="cpu", operations=comfy.ops.disable_weight_init
    )
    weights = random_weights(seed, shapes_of(control))
    encoder = {key: value for key, value in unet.state_dict().items() if key in weights}
    for key in weights:
        if key.startswith(OWN[1:]):
            weights[key].zero_()
    control.load_state_dict(weights | encoder)
    for key, parameter in control.named_parameters():
        parameter.requires_grad_(key.startswith(OWN))
    return control


def changed_layers(control: ControlNet) -> list[str]:
    """Every convolution and linear layer of the encoder."""
    return [
        name
        for name, layer in control.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and not name.startswith(OWN)
    ]
