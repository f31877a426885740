"""Stages `motion` and `lora-AXIS`: the motion module on clips, the UNet frozen; then camera movements as motion LoRAs.

One LoRA is trained for an axis, added for its forward clips and taken away for its backward ones. It so learns the two
directions as opposites, from twice as many clips.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .captions import host_tokens, plain_caption
from .data import CaptionedClips, camera_clips, captioned_clips
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
from .image_training import SUBJECTS_FILE, load_images, prompt_context
from .loop import Plan
from .low_rank import LowRankSet, motion_lora_file, motion_lora_names
from .networks import PATCH, FramePicker, calm_gradients, denoise_clips, denoise_pictures, make_motion_module
from .pictures import save_grid
from .scenes import Attributes, before_textures, draw_attributes, seeded
from .vae_training import decode, encode_fast, load_vae

FILE = "motion.safetensors"
FRAMES = 16
CFG = 7.5
LORA_RANK = 16
# A LoRA moves the camera half as fast as what it was shown (measured: 0.46 of it, and 1.0 at 1.5 times the strength), as it
# hedges where noise hides the movement. The file makes up for it.
LORA_GAIN = 1.8
TEACHING = 2.0  # how much the teacher counts beside the clips themselves
# Exponents of `draw_timesteps`, while clips are few frames and after. Above timestep 800 the noise hides where a clip's
# subject goes, so that only there the words for it teach anything.
EARLY_NOISE, LATE_NOISE = 0.35, 0.6
CAMERA_NOISE = 1.0  # evenly: how a camera moves is seen where there is less noise


class ClipNetworks:
    """The frozen parts that every stage on clips works with, and what they do to a batch of clips."""

    def __init__(self, size: int, device: torch.device, folder: Path) -> None:
        self.size, self.device = size, device
        self.vae, self.fast = load_vae(folder, device)
        self.tokens = host_tokens()
        self.unet, self.text = load_images(folder / SUBJECTS_FILE, self.tokens, device)
        tables = make_tables()
        self.sigmas, self.image_sigmas = tables["sqrt_linear"].to(device), tables["linear"].to(device)

    @torch.no_grad()
    def prepare(self, batch: CaptionedClips) -> tuple[Tensor, Tensor]:
        """Latents (n, f, 4, h, w) of the clips and contexts (n, 77, 128) of their captions."""
        with torch.autocast(self.device.type, torch.bfloat16):
            context = self.text(self.tokens(batch.captions).to(self.device))
        return encode_fast(self.fast, batch.clips), context

    @torch.no_grad()
    def teach(self, x: Tensor, sigma: Tensor, batch: CaptionedClips) -> Tensor:
        """The noise in clips x (n, f, 4, h, w) as the UNet alone sees it, told for each frame where its subject is."""
        timesteps = torch.searchsorted(self.image_sigmas, sigma).clamp(max=len(self.image_sigmas) - 1)
        with torch.autocast(self.device.type, torch.bfloat16):
            context = self.text(self.tokens(batch.frame_captions).to(self.device))
            noise = denoise_pictures(
                self.unet, x.flatten(0, 1), timesteps.repeat_interleave(x.shape[1]), context
            )
        return noise.view_as(x).float()

    @torch.no_grad()
    def sample_clips(
        self,
        module: torch.nn.Module,
        attributes: Attributes,
        seed: object,
        cfg: float = CFG,
        schedule: tuple | None = None,
    ) -> Tensor:
        """Clips of the scenes' plain captions, (n, FRAMES, 3, size, size) in 0..1.

        schedule: what `standard_sampling` or `lcm_sampling` gives; 25 steps of the standard mode by default.
        """
        captions = [plain_caption(attributes, i) for i in range(len(attributes))]
        context = prompt_context(self.text, self.tokens, captions, self.device)

        def denoiser(x: Tensor, timesteps: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16):
                return denoise_clips(self.unet, module, x, timesteps, context)

        side = self.size // PATCH
        shape = (len(captions), FRAMES, 4, side, side)
        sampling, sigmas = schedule or standard_sampling(25)
        latents = sample(
            guide(denoiser, cfg), sampling, sigmas, shape, seeded(seed, "clip noise"), self.device
        )
        return decode(self.vae, latents.flatten(0, 1)).view(*shape[:2], 3, self.size, self.size)


class MotionStage:
    """The motion module. batch: whole clips of a step, or as many pictures of more clips, the others left out by lot."""

    name = "motion"

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        self.plan, self.seed, self.device = plan, seed, device
        self.networks = ClipNetworks(size, device, folder)
        self.module = make_motion_module(None).to(device)
        calm_gradients(self.module)
        self.picker = FramePicker(self.module)

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.module.named_parameters())

    def frames_at(self, step: int) -> tuple[int, int]:
        """Clips and frames of each that a step takes, as many pictures in all: first many clips, in the end whole ones.

        What the words of movement mean is learnt from clips, however few their frames.
        """
        done = step / self.plan.steps
        share = 4 if done < 0.5 else 2 if done < 0.8 else 1
        return self.plan.batch * share, FRAMES // share

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        clips, frames = self.frames_at(step)
        batch = captioned_clips(self.seed, self.name, step, clips, frames, self.networks.size, self.device)
        self.picker.pick(batch.frames)
        early = frames < FRAMES / 2
        return clip_loss(
            self.networks,
            self.module,
            batch,
            EARLY_NOISE if early else LATE_NOISE,
            TEACHING if early else 0.0,
        )

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        save_file({key: value.contiguous() for key, value in self.module.state_dict().items()}, folder / FILE)

    @torch.no_grad()
    def save_samples(self, folder: Path) -> None:
        self.picker.all()
        attributes = draw_attributes(seeded(self.seed, "clip samples"), 8, held_out=True)
        clips = self.networks.sample_clips(self.module, attributes, self.seed)
        save_grid(folder / "motion.png", clips[:, ::2])
        captions = [plain_caption(attributes, i) for i in range(len(attributes))]
        (folder / "motion.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")


def clip_loss(
    networks: ClipNetworks,
    module: torch.nn.Module,
    batch: CaptionedClips,
    exponent: float,
    teaching: float = 0.0,
) -> tuple[Tensor, dict[str, float]]:
    """The noise loss of a batch; all frames of a clip have the same amount of noise.

    Args:
        exponent: for `draw_timesteps`; small for much noise.
        teaching: how much the UNet counts, as a teacher that knows more. What the words of movement mean shows only in
            where subjects are on average, and was hardly ever learnt from clips alone (2500 steps: no word did anything).
    """
    latents, context = networks.prepare(batch)
    noise = draw_noise(batch.rng, latents)
    timesteps = draw_timesteps(batch.rng, len(latents), exponent).to(latents.device)
    sigma, weights = networks.sigmas[timesteps], subject_weights(batch.clips)
    x = add_noise(latents, noise, sigma)
    with torch.autocast(latents.device.type, torch.bfloat16):
        predicted = denoise_clips(networks.unet, module, x, timesteps, context)
    error = noise_loss(predicted, noise, sigma, weights)
    numbers = {"clips": error.item()}
    if teaching:
        taught = noise_loss(predicted, networks.teach(x, sigma, batch), sigma, weights)
        numbers["teacher"] = taught.item()
        error = error + teaching * taught
    return error, numbers


class LoraStage:
    """A camera movement. axis: zoom, pan, tilt or roll."""

    def __init__(
        self, axis: str, plan: Plan, seed: int, size: int, device: torch.device, folder: Path
    ) -> None:
        self.name, self.axis = f"lora-{axis}", axis
        self.plan, self.seed, self.device = plan, seed, device
        self.networks = ClipNetworks(size, device, folder)
        self.module = load_motion(folder, device)
        calm_gradients(self.module)
        names = motion_lora_names(self.module)
        self.lora = LowRankSet(self.module, names, LORA_RANK, seeded(seed, self.name, "lora")).to(device)

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.lora.named_parameters())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        batch = camera_clips(
            self.seed, self.axis, step // 2, self.plan.batch * 2, FRAMES, self.networks.size, self.device
        )
        forwards = step % 2 == 0
        self.lora.set_strength(1.0 if forwards else -1.0)
        return clip_loss(self.networks, self.module, batch.half(first=forwards), CAMERA_NOISE)

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        file = {key: w.contiguous() for key, w in motion_lora_file(self.lora.weights(), LORA_GAIN).items()}
        save_file(file, folder / lora_file(self.axis))

    @torch.no_grad()
    def save_samples(self, folder: Path) -> None:
        rng = seeded(self.seed, "camera samples")
        attributes = before_textures(rng, draw_attributes(rng, 3, held_out=True))
        rows = []
        for strength in (1.0, 0.0, -1.0):
            self.lora.set_strength(LORA_GAIN * strength)
            rows.append(self.networks.sample_clips(self.module, attributes, self.seed)[:, ::2])
        save_grid(folder / f"{self.name}.png", torch.cat(rows))


def lora_file(axis: str) -> str:
    return f"lora-{axis}.safetensors"


def load_motion(folder: Path, device: torch.device, name: str = FILE, positions: int = 32) -> torch.nn.Module:
    """A trained motion module, frozen. Errors: FileNotFoundError where its stage was not trained."""
    module = make_motion_module(load_file(folder / name), positions)
    return module.to(device).eval().requires_grad_(False)
