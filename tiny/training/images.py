"""Stages `images`, `subjects` and `places`: UNet and text encoder, together, on single frames with their clips' captions.

The first learns from every place of a picture alike, and most of that is background; the second continues with
more weight on the subject. In the third the UNet alone continues, its features telling where in the picture they are.

A frame shows nothing of the movement that its caption speaks of, so the networks would learn to ignore those words, and
the motion module, which sees the text only through the UNet's features, could not follow them later. Small linear probes
keep them there: each must tell the movement from the features of one place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ..domain.captions import NO_CAPTIONS, Tokens, host_tokens, plain_caption, says_motion
from ..domain.scenes import MOTIONS, SPEEDS, Attributes, draw_attributes, seeded
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
from .loop import Plan
from .networks import PATCH, CaptionEncoder, denoise_pictures, make_unet
from .pictures import save_grid
from .readouts import PlaceReadouts
from .vae import decode, encode_fast, load_vae
from .weights import CHANNELS, save_whole, text_encoder, unet

IMAGES_FILE, SUBJECTS_FILE, PLACES_FILE = "images.safetensors", "subjects.safetensors", "places.safetensors"
TEXT, UNET_PREFIX = "text.", "unet."
PROBE_WEIGHT = 0.05
PLACES_WEIGHT = 0.3
NONE_SAID = -100  # cross entropy leaves these out
CFG = 5.0


class Probes(nn.Module):
    """Tell movement and speed from the mean features of three places: before, in and after the middle of the UNet."""

    PLACES = {"input": 5, "middle": 0, "output": 8}
    WIDTHS = {"input": CHANNELS[1], "middle": CHANNELS[3], "output": CHANNELS[1]}

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {kind: nn.Linear(width, len(MOTIONS) + len(SPEEDS)) for kind, width in self.WIDTHS.items()}
        )
        for head in self.heads.values():
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def patches(self, found: dict[str, Tensor]) -> dict[str, Any]:
        """Patches for the UNet that leave the features' means (n, c) in `found`."""

        def after_input(h: Tensor, options: dict[str, Any]) -> Tensor:
            if options["block"] == ("input", self.PLACES["input"]):
                found["input"] = h.mean(dim=(2, 3))
            return h

        def after_middle(values: dict[str, Any]) -> dict[str, Any]:
            found["middle"] = values["h"].mean(dim=(2, 3))
            return values

        def before_output(h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
            if options["block"] == ("output", self.PLACES["output"] + 1):
                found["output"] = h.mean(dim=(2, 3))
            return h, skip

        return {
            "input_block_patch": [after_input],
            "middle_block_after_patch": [after_middle],
            "output_block_patch": [before_output],
        }

    def loss(self, found: dict[str, Tensor], motion: Tensor, speed: Tensor) -> tuple[Tensor, float]:
        """motion, speed: (n,), NONE_SAID where the caption is silent. Returns the loss and how often motion is right."""
        losses, right = [], []
        for kind, features in found.items():
            # Normalised: features grow while they are learnt, and the probes' gradient would drown out the other.
            features = F.layer_norm(features.float(), features.shape[1:])
            motions, speeds = self.heads[kind](features).split((len(MOTIONS), len(SPEEDS)), dim=1)
            losses += [F.cross_entropy(motions, motion), F.cross_entropy(speeds, speed)]
            said = motion != NONE_SAID
            right.append((motions.argmax(1)[said] == motion[said]).float().mean().item())
        return torch.stack(losses).mean(), sum(right) / len(right)


class ImageStage:
    name, file = "images", IMAGES_FILE

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        self.plan, self.seed, self.size, self.device = plan, seed, size, device
        self.vae, self.fast = load_vae(folder, device)
        self.tokens = host_tokens()
        self.text = CaptionEncoder(self.tokens.used, text_encoder(f"{seed}/text")).to(device)
        self.unet = make_unet(unet(f"{seed}/unet")).to(device)
        self.probes = Probes().to(device)
        self.sigmas = {name: table.to(device) for name, table in make_tables().items()}

    def weights(self, pictures: Tensor) -> Tensor:
        return torch.ones(1, device=pictures.device)

    def parameters(self) -> dict[str, Tensor]:
        parts = {TEXT: self.text, UNET_PREFIX: self.unet, "probes.": self.probes}
        return {prefix + key: p for prefix, part in parts.items() for key, p in part.named_parameters()}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        batch = captioned_pictures(self.seed, self.name, step, self.plan.batch, self.size, self.device)
        latents = encode_fast(self.fast, batch.pictures)
        noise = draw_noise(batch.rng, latents)
        timesteps = draw_timesteps(batch.rng, len(latents)).to(self.device)
        # Pictures are made on SD1.5's own schedule, clips on another: the UNet learns both.
        own = (torch.rand(len(latents), generator=batch.rng) < 0.5).to(self.device)
        sigma = torch.where(own, self.sigmas["linear"][timesteps], self.sigmas["sqrt_linear"][timesteps])
        found: dict[str, Tensor] = {}
        with torch.autocast(self.device.type, torch.bfloat16):
            context = self.text(self.tokens(batch.captions).to(self.device))
            predicted = denoise_pictures(
                self.unet,
                add_noise(latents, noise, sigma),
                timesteps,
                context.repeat_interleave(PICTURES_PER_CAPTION, 0),
                **self.probes.patches(found),
                **self.more_patches(),
            )
        error = noise_loss(predicted, noise, sigma, self.weights(batch.pictures))
        probe_loss, right = self.probes.loss(found, *said(batch.captions, batch.attributes, self.device))
        high = sigma > 4
        numbers = {
            "noise": error.item(),
            "noise_at_high_sigma": (predicted[high].float() - noise[high]).square().mean().item(),
            "probes_right": right,
        }
        return error + PROBE_WEIGHT * probe_loss + self.more_loss(numbers), numbers

    def more_patches(self) -> dict[str, Any]:
        return {}

    def more_loss(self, numbers: dict[str, float]) -> Tensor | float:
        return 0.0

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        weights = {UNET_PREFIX + key: value for key, value in self.unet.state_dict().items()}
        weights |= {TEXT + key: value for key, value in self.text.checkpoint().items()}
        save_whole(weights, folder / self.file)

    @torch.no_grad()
    def save_samples(self, folder: Path) -> None:
        """Pictures of held-out combinations, and their captions."""
        rows, columns = 4, 8
        attributes = draw_attributes(seeded(self.seed, "image samples"), rows * columns, held_out=True)
        captions = [plain_caption(attributes, i) for i in range(len(attributes))]
        context = prompt_context(self.text, self.tokens, captions, self.device)
        sampling, sigmas = standard_sampling(25, "linear")

        def denoiser(x: Tensor, timesteps: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16):
                return denoise_pictures(self.unet, x, timesteps, context)

        side = self.size // PATCH
        latents = sample(
            guide(denoiser, CFG),
            sampling,
            sigmas,
            (len(captions), 4, side, side),
            seeded(self.seed, "image noise"),
            self.device,
        )
        pictures = decode(self.vae, latents).view(rows, columns, 3, self.size, self.size)
        save_grid(folder / f"{self.name}.png", pictures)
        (folder / f"{self.name}.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")


class SubjectStage(ImageStage):
    """Continues from `images`."""

    name, source_file, file = "subjects", IMAGES_FILE, SUBJECTS_FILE

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        super().__init__(plan, seed, size, device, folder)
        unet, text = load_images(folder / self.source_file, self.tokens, device)
        self.unet.load_state_dict(unet.state_dict())
        self.text.load_state_dict(text.state_dict())

    def weights(self, pictures: Tensor) -> Tensor:
        return subject_weights(pictures)


class PlaceStage(SubjectStage):
    """Continues from `subjects`."""

    name, source_file, file = "places", SUBJECTS_FILE, PLACES_FILE

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        super().__init__(plan, seed, size, device, folder)
        self.text.requires_grad_(False)
        self.readouts = PlaceReadouts().to(device)

    def parameters(self) -> dict[str, Tensor]:
        readouts = {f"readouts.{key}": p for key, p in self.readouts.named_parameters()}
        return {key: p for key, p in super().parameters().items() if p.requires_grad} | readouts

    def more_patches(self) -> dict[str, Any]:
        return self.readouts.patches()

    def more_loss(self, numbers: dict[str, float]) -> Tensor:
        untold = self.readouts.loss()
        numbers["places_untold"] = untold.item()
        return PLACES_WEIGHT * untold


def said(captions: list[str], attributes: Attributes, device: torch.device) -> tuple[Tensor, Tensor]:
    """Motion and speed by picture, (n,) each, NONE_SAID where the caption doesn't speak of motion."""
    speaks = torch.tensor([says_motion(text) for text in captions])
    return tuple(
        torch.where(speaks, values, NONE_SAID).repeat_interleave(PICTURES_PER_CAPTION).to(device)
        for values in (attributes.motion, attributes.speed)
    )


@torch.no_grad()
def prompt_context(text: CaptionEncoder, tokens: Tokens, captions: list[str], device: torch.device) -> Tensor:
    """Contexts of n captions and then of n negative prompts: (2n, 77, 128)."""
    return text(tokens([*captions, *NO_CAPTIONS[1:] * len(captions)]).to(device))


def load_images(file: Path, tokens: Tokens, device: torch.device) -> tuple[UNetModel, CaptionEncoder]:
    """The trained UNet and text encoder, frozen. Errors: FileNotFoundError where its stage was not trained."""
    weights: Weights = load_file(file)
    network = make_unet(
        {key.removeprefix(UNET_PREFIX): w for key, w in weights.items() if key.startswith(UNET_PREFIX)}
    )
    text = CaptionEncoder(
        tokens.used, {key.removeprefix(TEXT): w for key, w in weights.items() if key.startswith(TEXT)}
    )
    return tuple(part.to(device).eval().requires_grad_(False) for part in (network, text))
