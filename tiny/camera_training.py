"""Stage `cameras`: the motion module goes on, together with motion LoRAs for the movements of the camera.

Without a LoRA the camera is at rest, with one it moves. AnimateDiff's module knew moving cameras from its own training, and
LoRAs chose among them; ours saw none, and LoRAs alone learned to pan and tilt, but neither to zoom nor to roll.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .captions import without_motion
from .data import camera_clips, captioned_clips
from .diffusion import add_noise, bright_places, draw_noise, draw_timesteps
from .loop import Plan
from .low_rank import LowRankSet, motion_lora_file, motion_lora_names
from .motion_training import FILE as MOTION_FILE
from .motion_training import FRAMES, ClipNetworks, clip_loss
from .motions import CAMERA_RATES, content_flow
from .networks import calm_gradients, denoise_clips, make_motion_module
from .pictures import save_grid
from .readouts import FlowReadouts
from .scenes import before_textures, draw_attributes, seeded
from .weights import Weights

FILE = "cameras.safetensors"
# Half of the ranks is common to both directions of an axis, half is what makes them two.
RANK = 16
LORA, READOUTS = "lora.", "readouts."
# What the steps are about, two by two: a caption with and one without words of movement, a camera forwards and backwards.
# Zooming and rolling are the hardest.
STEPS = ("rest", "zoom", "roll", "rest", "roll", "zoom", "rest", "pan", "roll", "rest", "zoom", "tilt")
SAID_NOISE, SILENT_NOISE = 0.5, 1.0  # exponents of `draw_timesteps`
TEACHING = 1.0
# How a camera moves is decided where there is neither little nor much noise, and it shows in the background, which a
# subject's colours would outweigh.
FIRST, LAST = 250, 850  # timesteps
SUBJECT = 0.2  # how much a place with the subject counts
FLOW = 0.3  # how much the readouts count


class CameraLora(nn.Module):
    """The two motion LoRAs of an axis: common + direction, and common - direction."""

    def __init__(self, module: nn.Module, rank: int, seed: str) -> None:
        super().__init__()
        names = motion_lora_names(module)
        self.common = LowRankSet(module, names, rank // 2, seeded(seed, "common"))
        self.direction = LowRankSet(module, names, rank // 2, seeded(seed, "direction"))

    def set_strength(self, strength: float, sign: float = 1.0) -> None:
        self.common.set_strength(strength)
        self.direction.set_strength(strength * sign)

    def file(self) -> Weights:
        """The LoRA forwards; the second half of its ranks is the direction."""
        common, direction = self.common.weights(), self.direction.weights()
        both = {
            name: tuple(
                torch.cat(parts, dim=dim)
                for dim, parts in enumerate(zip(common[name], direction[name], strict=True))
            )
            for name in common
        }
        return motion_lora_file(both)


class CameraStage:
    name = "cameras"

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        self.plan, self.seed, self.device = plan, seed, device
        self.networks = ClipNetworks(size, device, folder)
        self.module = make_motion_module(load_file(folder / MOTION_FILE)).to(device)
        calm_gradients(self.module)
        self.weights = dict(self.module.named_parameters())
        self.readouts = FlowReadouts(self.module).to(device)
        self.loras = nn.ModuleDict(
            {axis: CameraLora(self.module, RANK, f"{seed}/{axis}") for axis in CAMERA_RATES}
        )
        self.loras.to(device)
        for weight in self.weights.values():
            weight.requires_grad_(True)  # LowRankSet freezes what it changes

    def parameters(self) -> dict[str, Tensor]:
        parts = {LORA: self.loras, READOUTS: self.readouts}
        return self.weights | {
            prefix + key: p for prefix, part in parts.items() for key, p in part.named_parameters()
        }

    def select(self, axis: str | None, sign: float = 1.0) -> None:
        """Lets one axis' LoRA work, or none."""
        for name, lora in self.loras.items():
            lora.set_strength(1.0 if name == axis else 0.0, sign)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        about, first = STEPS[step // 2 % len(STEPS)], step % 2 == 0
        self.readouts.listen()
        if about == "rest":
            self.select(None)
            error = self._rest_loss(step, said=first)
        else:
            self.select(about, 1.0 if first else -1.0)
            error = self._camera_loss(about, step // 2, forwards=first)
        flow = self.readouts.loss(self.plan.batch, lambda side: self._flow(about, side, forwards=first))
        return error + FLOW * flow, {about: error.item(), f"flow of {about}": flow.item()}

    def _rest_loss(self, step: int, said: bool) -> Tensor:
        """Without words for its movement, a subject's movement must be seen in the clip itself, as in video to video."""
        batch = captioned_clips(
            self.seed, self.name, step, self.plan.batch, FRAMES, self.networks.size, self.device
        )
        if said:
            return clip_loss(self.networks, self.module, batch, SAID_NOISE, TEACHING)[0]
        batch = replace(batch, captions=[without_motion(text) for text in batch.captions])
        return clip_loss(self.networks, self.module, batch, SILENT_NOISE)[0]

    def _camera_loss(self, axis: str, step: int, forwards: bool) -> Tensor:
        """Squared error of the latents, mostly of the background's, as part of what is usual at their noise."""
        batch = camera_clips(
            self.seed, axis, step, 2 * self.plan.batch, FRAMES, self.networks.size, self.device
        ).half(forwards)
        latents, context = self.networks.prepare(batch)
        timesteps = FIRST + (LAST - FIRST) * draw_timesteps(batch.rng, len(latents)).float() / 1000
        timesteps = timesteps.long().to(self.device)
        noise, sigma = draw_noise(batch.rng, latents), self.networks.sigmas[timesteps]
        with torch.autocast(self.device.type, torch.bfloat16):
            predicted = denoise_clips(
                self.networks.unet, self.module, add_noise(latents, noise, sigma), timesteps, context
            )
        weights = 1 - (1 - SUBJECT) * bright_places(batch.clips)
        error = ((predicted.float() - noise).square() * weights).flatten(1).mean(1) / weights.flatten(1).mean(
            1
        )
        usual = 0.03 / sigma**2 + 0.6 / (sigma**2 + 9)  # of the noise, measured roughly
        return (error / usual).mean()

    @staticmethod
    def _flow(about: str, side: int, forwards: bool) -> Tensor:
        if about == "rest":
            return torch.zeros(side, side, 2)
        return content_flow(about, side) / CAMERA_RATES["pan"] * (1 if forwards else -1)

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        save_file({key: w.detach().contiguous() for key, w in self.weights.items()}, folder / FILE)
        for axis, lora in self.loras.items():
            file = {key: w.detach().contiguous() for key, w in lora.file().items()}
            save_file(file, folder / lora_file(axis))

    @torch.no_grad()
    def save_samples(self, folder: Path) -> None:
        rng = seeded(self.seed, "camera samples")
        attributes = before_textures(rng, draw_attributes(rng, 3, held_out=True))
        rows = []
        for axis, sign in ((axis, sign) for axis in CAMERA_RATES for sign in (1.0, -1.0)):
            self.select(axis, sign)
            rows.append(self.networks.sample_clips(self.module, attributes, self.seed)[:, ::2])
        save_grid(folder / "cameras.png", torch.cat(rows))


def lora_file(axis: str) -> str:
    return f"lora-{axis}.safetensors"
