"""Stage `cameras`: the motion module continues, together with motion LoRAs for the movements of the camera.

Without a LoRA the camera is at rest, with one it moves. AnimateDiff's module knew moving cameras from its own training, and
LoRAs chose among them; ours saw none, and LoRAs alone learned to pan and tilt, but neither to zoom nor to roll.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..domain.captions import without_motion
from ..domain.motions import CAMERA_RATES, content_flow, subject_velocity
from ..domain.scenes import before_textures, draw_attributes, seeded
from ..shipped import Weights
from .data import camera_clips, captioned_clips
from .diffusion import TRAIN_STEPS, add_noise, bright_places, draw_noise, draw_timesteps, is_bright
from .loop import Plan
from .low_rank import LowRankSet, motion_lora_file, motion_lora_names, motion_lora_weights
from .motion import EARLY_NOISE, FRAMES, LATE_NOISE, ClipNetworks, clip_loss
from .motion import FILE as MOTION_FILE
from .networks import FramePicker, calm_gradients, denoise_clips, make_motion_module
from .pictures import save_grid
from .readouts import FlowReadouts
from .weights import save_whole

FILE = "cameras.safetensors"
# Half of the ranks is common to both directions of an axis, half is what makes them two.
RANK = 16
LORA, READOUTS = "lora.", "readouts."
# Strength 1 of what is shipped, in strengths of training: with it cameras go 0.8 to 1.2 times as fast as shown, on average.
GAIN = 1.5
# How a camera moves is decided where there is neither little nor much noise, and it shows in the background, which a
# subject's colours would outweigh.
LEAST_NOISE, MOST_NOISE = 250, 850  # timesteps
SUBJECT = 0.2  # how much a place with the subject counts
REST_FLOW, CAMERA_FLOW = 0.6, 0.3  # how much the readouts count; their unit is a pan's flow
SUBJECT_FLOW = 6.0  # how much more a subject's flow counts


@dataclass(frozen=True)
class RestStep:
    """A step on clips whose camera is at rest.

    words: whether captions say how the subject moves. Where they don't, that must be seen in the clip itself, as in video
    to video. exponent, teaching: as `clip_loss` has them.
    """

    words: bool
    frames: int
    exponent: float
    teaching: float = 0.0


@dataclass(frozen=True)
class CameraStep:
    """A step on clips whose camera moves along an axis."""

    axis: str
    sign: float


SILENT = RestStep(words=False, frames=FRAMES, exponent=1.0)
# Clips with words, in turn; the more clips, the more is learnt of what words mean.
WITH_WORDS = (
    RestStep(True, FRAMES // 2, EARLY_NOISE, teaching=1.0),
    *[RestStep(True, FRAMES, LATE_NOISE)] * 3,
)
CAMERAS = ("zoom", "roll", "pan", "zoom", "roll", "tilt")  # the hardest more often


def kind_of_step(step: int) -> RestStep | CameraStep:
    """Cameras go forwards and then backwards; between them are two steps at rest."""
    pair, odd = divmod(step, 2)
    sign = -1.0 if odd else 1.0
    turn, moves = divmod(pair, 2)
    if moves:
        return CameraStep(CAMERAS[turn % len(CAMERAS)], sign)
    return SILENT if odd else WITH_WORDS[turn % len(WITH_WORDS)]


class CameraLora(nn.Module):
    """The two motion LoRAs of an axis: common + direction, and common - direction."""

    def __init__(self, module: nn.Module, rank: int, seed: str) -> None:
        super().__init__()
        self.rank, names = rank, motion_lora_names(module)
        self.common = LowRankSet(module, names, rank // 2, seeded(seed, "common"))
        self.direction = LowRankSet(module, names, rank // 2, seeded(seed, "direction"))

    def set_strength(self, strength: float, sign: float = 1.0) -> None:
        self.common.set_strength(strength)
        self.direction.set_strength(strength * sign)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """The reverse of `file`. Errors: ValueError where the file is of other layers or ranks."""
        file = load_file(path)
        if {key: value.shape for key, value in file.items()} != {
            key: value.shape for key, value in self.file().items()
        }:
            raise ValueError(
                f"{path.name} holds a LoRA of other layers or another rank than {self.rank}: delete it and train its stage again."
            )
        for name, (down, up) in motion_lora_weights(file).items():
            for half, part in enumerate((self.common.at(name), self.direction.at(name))):
                part.down.copy_(down.chunk(2)[half])
                part.up.copy_(up.chunk(2, dim=1)[half].flatten(1))

    def file(self) -> Weights:
        """The LoRA forwards; the second half of its ranks is the direction."""
        both, direction = {}, self.direction.weights()
        for name, (down, up) in self.common.weights().items():
            more_down, more_up = direction[name]
            both[name] = torch.cat([down, more_down]), torch.cat([up, more_up], dim=1)
        return motion_lora_file(both)


class CameraStage:
    """The module of `source_file` and a LoRA for each axis. Readouts start anew and are not kept."""

    name, source_file, file = "cameras", MOTION_FILE, FILE
    loras_from: str | None = None  # the stage whose LoRAs it continues

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        self.plan, self.seed, self.device = plan, seed, device
        self.networks = ClipNetworks(size, device, folder)
        self.module = make_motion_module(load_file(folder / self.source_file)).to(device)
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
        if self.loras_from:
            for axis, lora in self.loras.items():
                lora.load(folder / lora_file(self.loras_from, axis))

    def parameters(self) -> dict[str, Tensor]:
        parts = {LORA: self.loras, READOUTS: self.readouts}
        return self.weights | {
            prefix + key: p for prefix, part in parts.items() for key, p in part.named_parameters()
        }

    def select(self, axis: str | None, sign: float = 1.0, strength: float = 1.0) -> None:
        """Switches on one axis' LoRA, or none."""
        for name, lora in self.loras.items():
            lora.set_strength(strength if name == axis else 0.0, sign)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        return self.loss_of(step, kind_of_step(step))

    def loss_of(self, step: int, kind: RestStep | CameraStep) -> tuple[Tensor, dict[str, float]]:
        if isinstance(kind, RestStep):
            error, flow = self._rest_losses(step, kind)
            return error + REST_FLOW * flow, {"rest": error.item(), "flow of rest": flow.item()}
        error, flow = self._camera_losses(step, kind)
        return error + CAMERA_FLOW * flow, {kind.axis: error.item(), f"flow of {kind.axis}": flow.item()}

    def _rest_losses(self, step: int, kind: RestStep) -> tuple[Tensor, Tensor]:
        """The loss of the noise, and that of the readouts."""
        self.select(None)
        clips = self.plan.batch * FRAMES // kind.frames
        batch = captioned_clips(
            self.seed, self.name, step, clips, kind.frames, self.networks.size, self.device
        )
        if not kind.words:
            batch = replace(batch, captions=[without_motion(text) for text in batch.captions])
        self.picker.pick(batch.frames)
        self.readouts.listen()
        error, _ = clip_loss(self.networks, self.module, batch, kind.exponent, kind.teaching)
        self.picker.all()
        velocity = subject_velocity(batch.attributes, batch.frames.float()) / CAMERA_RATES["pan"]
        velocity = velocity[:, :, None, None].to(self.device)

        def flow(side: int) -> tuple[Tensor, Tensor]:
            """The subject moves, the background does not."""
            bright = is_bright(batch.clips)
            cover = F.adaptive_avg_pool2d(bright.flatten(0, 1), side).view(*bright.shape[:2], side, side, 1)
            weights = 1 + SUBJECT_FLOW * cover
            return cover * velocity, weights / weights.mean()

        return error, self.readouts.loss(clips, flow)

    def _camera_losses(self, step: int, kind: CameraStep) -> tuple[Tensor, Tensor]:
        """The squared error of the noise, mostly of the background's, as part of what is usual, and the loss of the readouts.

        The readouts are asked for the flow of the axis' own rate, without the subject's movement.
        """
        self.select(kind.axis, kind.sign)
        clips, size = self.plan.batch, self.networks.size
        batch = camera_clips(
            self.seed, self.name, kind.axis, kind.sign, step, clips, FRAMES, size, self.device
        )
        latents, context = self.networks.prepare(batch)
        part = draw_timesteps(batch.rng, len(latents)).float() / TRAIN_STEPS
        timesteps = (LEAST_NOISE + (MOST_NOISE - LEAST_NOISE) * part).long().to(self.device)
        noise, sigma = draw_noise(batch.rng, latents), self.networks.sigmas[timesteps]
        self.readouts.listen()
        with torch.autocast(self.device.type, torch.bfloat16):
            predicted = denoise_clips(
                self.networks.unet, self.module, add_noise(latents, noise, sigma), timesteps, context
            )
        weights = 1 - (1 - SUBJECT) * bright_places(batch.clips)
        error = ((predicted.float() - noise).square() * weights / weights.mean()).flatten(1).mean(1)
        usual = 0.03 / sigma**2 + 0.6 / (sigma**2 + 9)  # of the noise, measured roughly

        def flow(side: int) -> tuple[Tensor, Tensor]:
            return kind.sign * content_flow(kind.axis, side) / CAMERA_RATES["pan"], torch.ones(1)

        return (error / usual).mean(), self.readouts.loss(len(latents), flow)

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        save_whole(self.weights, folder / self.file)
        for axis, lora in self.loras.items():
            save_whole(lora.file(), folder / lora_file(self.name, axis))

    @torch.no_grad()
    def save_samples(self, folder: Path) -> None:
        rng = seeded(self.seed, "camera samples")
        attributes = before_textures(rng, draw_attributes(rng, 3, held_out=True))
        moves = [(None, 1.0), *((axis, sign) for axis in CAMERA_RATES for sign in (1.0, -1.0))]
        rows = []
        for axis, sign in moves:
            self.select(axis, sign, GAIN)
            rows.append(self.networks.sample_clips(self.module, attributes, self.seed)[:, ::2])
        save_grid(folder / f"{self.name}.png", torch.cat(rows))


def lora_file(stage: str, axis: str) -> str:
    return f"{stage}-{axis}.safetensors"
