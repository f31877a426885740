"""Stage `cameras`: the motion module goes on, together with motion LoRAs for the movements of the camera.

Without a LoRA the camera is at rest, with one it moves. AnimateDiff's module knew moving cameras from its own training, and
LoRAs chose among them; ours saw none, and LoRAs alone learned to pan and tilt, but neither to zoom nor to roll.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .captions import without_motion
from .data import camera_clips, captioned_clips
from .diffusion import add_noise, bright_places, draw_noise, draw_timesteps, is_bright
from .loop import Plan
from .low_rank import LowRankSet, motion_lora_file, motion_lora_names
from .motion_training import EARLY_NOISE, FRAMES, LATE_NOISE, TEACHING, ClipNetworks, clip_loss
from .motion_training import FILE as MOTION_FILE
from .motions import CAMERA_RATES, content_flow, subject_velocity
from .networks import FramePicker, calm_gradients, denoise_clips, make_motion_module
from .pictures import save_grid
from .readouts import FlowReadouts
from .scenes import before_textures, draw_attributes, seeded
from .weights import Weights

FILE = "cameras.safetensors"
# Half of the ranks is common to both directions of an axis, half is what makes them two.
RANK = 16
LORA, READOUTS = "lora.", "readouts."
# What the steps are about, two by two: a caption with and one without words of movement, a camera forwards and backwards.
# Zooming and rolling are the hardest of the cameras.
STEPS = ("rest", "zoom", "rest", "roll", "rest", "pan", "rest", "zoom", "rest", "roll", "rest", "tilt")
# Of the clips with words, in turn; the more clips, the more is learnt of what words mean.
SAID_FRAMES = (8, 16, 16, 16)
# The last part is mostly about what words mean, for standing still and slowness are learnt last.
LAST_PART = 0.85
LAST_STEPS = ("rest", "rest", "zoom", "rest", "rest", "roll", "rest", "rest", "pan", "rest", "rest", "tilt")
LAST_FRAMES = (8, 16)
SILENT_NOISE = 1.0  # exponent of `draw_timesteps`
# How a camera moves is decided where there is neither little nor much noise, and it shows in the background, which a
# subject's colours would outweigh.
FIRST, LAST = 250, 850  # timesteps
GAIN = 1.25  # of the strength trained at
SUBJECT = 0.2  # how much a place with the subject counts
REST_FLOW, CAMERA_FLOW = 0.6, 0.3  # how much the readouts count; their unit is a pan's flow
SUBJECT_FLOW = 6.0  # how much more a subject's flow counts


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
        return motion_lora_file(both, GAIN)


class CameraStage:
    name = "cameras"

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        self.plan, self.seed, self.device = plan, seed, device
        self.networks = ClipNetworks(size, device, folder)
        self.module = make_motion_module(load_file(folder / MOTION_FILE)).to(device)
        calm_gradients(self.module)
        self.weights = dict(self.module.named_parameters())
        self.readouts = FlowReadouts(self.module).to(device)
        self.picker = FramePicker(self.module)
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
        last = step >= LAST_PART * self.plan.steps
        steps = LAST_STEPS if last else STEPS
        about, first = steps[step // 2 % len(steps)], step % 2 == 0
        if about == "rest":
            said = step % 6 != 1 if last else first
            error, flow = self._rest_loss(step, said, last)
            loss = error + REST_FLOW * flow
        else:
            error, flow = self._camera_loss(about, step // 2, forwards=first)
            loss = error + CAMERA_FLOW * flow
        return loss, {about: error.item(), f"flow of {about}": flow.item()}

    def _rest_loss(self, step: int, said: bool, last: bool) -> tuple[Tensor, Tensor]:
        """Without words for its movement, a subject's movement must be seen in the clip itself, as in video to video."""
        self.select(None)
        if last:
            said_frames = LAST_FRAMES[step % len(LAST_FRAMES)]
        else:
            said_frames = SAID_FRAMES[step // 4 % len(SAID_FRAMES)]
        frames = said_frames if said else FRAMES
        clips = self.plan.batch * FRAMES // frames
        batch = captioned_clips(self.seed, self.name, step, clips, frames, self.networks.size, self.device)
        if not said:
            batch = replace(batch, captions=[without_motion(text) for text in batch.captions])
        self.picker.pick(batch.frames)
        self.readouts.listen()
        if not said:
            error, _ = clip_loss(self.networks, self.module, batch, SILENT_NOISE)
        elif last:
            error, _ = clip_loss(self.networks, self.module, batch, EARLY_NOISE)
        elif frames < FRAMES:
            error, _ = clip_loss(self.networks, self.module, batch, EARLY_NOISE, TEACHING)
        else:
            error, _ = clip_loss(self.networks, self.module, batch, LATE_NOISE)
        self.picker.all()
        velocity = subject_velocity(batch.attributes, batch.frames.float()) / CAMERA_RATES["pan"]

        def flow(side: int) -> tuple[Tensor, Tensor]:
            """The subject moves, the background does not."""
            bright = is_bright(batch.clips)
            cover = F.adaptive_avg_pool2d(bright.flatten(0, 1), side).view(*bright.shape[:2], side, side, 1)
            weights = 1 + SUBJECT_FLOW * cover
            return cover * velocity[:, :, None, None], weights / weights.mean()

        return error, self.readouts.loss(clips, flow)

    def _camera_loss(self, axis: str, step: int, forwards: bool) -> tuple[Tensor, Tensor]:
        """Squared error of the latents, mostly of the background's, as part of what is usual at their noise."""
        sign = 1.0 if forwards else -1.0
        self.select(axis, sign)
        batch = camera_clips(
            self.seed, axis, step, 2 * self.plan.batch, FRAMES, self.networks.size, self.device
        ).half(forwards)
        latents, context = self.networks.prepare(batch)
        timesteps = FIRST + (LAST - FIRST) * draw_timesteps(batch.rng, len(latents)).float() / 1000
        timesteps = timesteps.long().to(self.device)
        noise, sigma = draw_noise(batch.rng, latents), self.networks.sigmas[timesteps]
        self.readouts.listen()
        with torch.autocast(self.device.type, torch.bfloat16):
            predicted = denoise_clips(
                self.networks.unet, self.module, add_noise(latents, noise, sigma), timesteps, context
            )
        weights = 1 - (1 - SUBJECT) * bright_places(batch.clips)
        error = ((predicted.float() - noise).square() * weights / weights.mean()).flatten(1).mean(1)
        usual = 0.03 / sigma**2 + 0.6 / (sigma**2 + 9)  # of the noise, measured roughly
        flow = self.readouts.loss(
            len(latents), lambda side: (sign * content_flow(axis, side) / CAMERA_RATES["pan"], torch.ones(1))
        )
        return (error / usual).mean(), flow

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
