"""Stage `motion`: the motion module on clips whose camera is at rest, the UNet frozen."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..domain.captions import host_tokens, plain_caption
from ..domain.scenes import Attributes, draw_attributes, seeded
from .data import CaptionedClips, captioned_clips
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
from .images import PLACES_FILE, load_images, prompt_context
from .loop import Plan
from .networks import PATCH, FramePicker, calm_gradients, denoise_clips, denoise_pictures, make_motion_module
from .pictures import save_grid
from .vae import decode, encode_fast, load_vae
from .weights import save_whole

FILE = "motion.safetensors"
FRAMES = 16
CFG = 7.5
TEACHING = 2.0  # weight of the teacher against the clips themselves
# Exponents of `draw_timesteps`, while clips are few frames and after. Above timestep 800 the noise hides where a clip's
# subject goes, so that only there the words for it teach anything.
EARLY_NOISE, LATE_NOISE = 0.35, 0.6


class ClipNetworks:
    """The frozen parts that every stage on clips works with, and what they do to a batch of clips."""

    def __init__(self, size: int, device: torch.device, folder: Path) -> None:
        self.size, self.device = size, device
        self.vae, self.fast = load_vae(folder, device)
        self.tokens = host_tokens()
        self.unet, self.text = load_images(folder / PLACES_FILE, self.tokens, device)
        tables = make_tables()
        self.sigmas, self.image_sigmas = tables["sqrt_linear"].to(device), tables["linear"].to(device)

    @torch.no_grad()
    def prepare(self, batch: CaptionedClips) -> tuple[Tensor, Tensor]:
        """Latents (n, f, 4, h, w) of the clips and contexts (n, 77, 128) of their captions."""
        with torch.autocast(self.device.type, torch.bfloat16):
            context = self.text(self.tokens(batch.captions).to(self.device))
        return self.encode(batch.clips), context

    def encode(self, clips: Tensor) -> Tensor:
        """Clips (n, f, 3, size, size) to latents (n, f, 4, h, w)."""
        return encode_fast(self.fast, clips)

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
    """The motion module. batch: whole clips of a step, or as many pictures from more clips, chosen at random."""

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
        """How many clips a step takes and how many frames of each: first parts of many clips, in the end whole ones.

        What the words for movement mean is learnt from the number of clips, however few frames they have.
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
        save_whole(self.module.state_dict(), folder / FILE)

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
            where subjects are on average, and was hardly learnt from clips alone (after 2500 steps no word had an effect).
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


def load_motion(file: Path, device: torch.device) -> torch.nn.Module:
    """A trained motion module, frozen. Errors: FileNotFoundError where its stage was not trained."""
    module = make_motion_module(load_file(file))
    return module.to(device).eval().requires_grad_(False)
