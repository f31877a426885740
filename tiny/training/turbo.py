"""Stage `turbo`: the motion module distilled to few steps, with a LoRA for the UNet, in the manner of AnimateLCM.

Consistency distillation (Luo et al. 2023, arXiv 2310.04378; Wang et al. 2024, arXiv 2402.00769) on the 100-step table
that the pack samples AnimateLCM on. The target is the student itself, two steps of the guided teacher further down.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import comfy.utils

from ..domain.captions import NO_CAPTIONS
from ..domain.scenes import draw_attributes, seeded
from ..extension.family import UNET
from .data import captioned_clips
from .diffusion import draw_noise, expand, lcm_sampling
from .edits import FILE as TEACHER_FILE
from .loop import Plan
from .low_rank import LowRankSet, unet_lora_file, unet_lora_names
from .motion import FRAMES, ClipNetworks, load_motion
from .networks import FramePicker, calm_gradients, denoise_clips, make_motion_module
from .pictures import save_grid
from .weights import save_whole

MODULE_FILE, LORA_FILE = "turbo.safetensors", "turbo-lora.safetensors"
POSITIONS = 64  # what the pack gives a module without tables
ORIGINAL_STEPS = 100
SKIP = 6  # entries of the table that a step of the teacher goes over: 17 steps for the whole
TEACHER_STEPS = 2  # from a clip to its target, 12 entries: nine targets on the way down the table
TEACHER_CFG = 2.5  # sampled with cfg 2, the student is guided about as much as the teacher by 5
LORA_STRENGTH = 0.8  # of the turbo workflow
LORA_RANK = 4
HUBER = 0.1


class TurboStage:
    name = "turbo"

    def __init__(self, plan: Plan, seed: int, size: int, device: torch.device, folder: Path) -> None:
        self.plan, self.seed, self.device = plan, seed, device
        self.networks = ClipNetworks(size, device, folder)
        self.teacher = load_motion(folder / TEACHER_FILE, device)
        self.module = make_motion_module(self.teacher.state_dict(), POSITIONS).to(device)
        calm_gradients(self.module)
        self.pickers = (FramePicker(self.teacher), FramePicker(self.module))
        self.sampling, _ = lcm_sampling(1, ORIGINAL_STEPS)
        self.sigmas = torch.cat([torch.zeros(1), self.sampling.sigmas]).to(
            device
        )  # of the table's entries, 0 at 0
        with torch.no_grad():
            self.no_context = self.networks.text(self.networks.tokens(NO_CAPTIONS[1:]).to(device))
        names = unet_lora_names(comfy.utils.unet_to_diffusers(UNET))
        shapes = {name: parameter.ndim for name, parameter in self.networks.unet.named_parameters()}
        self.diffusers_names = {
            key: name for key, name in names.items() if shapes.get(f"{key}.weight", 0) > 1
        }
        self.lora = LowRankSet(
            self.networks.unet, list(self.diffusers_names), LORA_RANK, seeded(seed, "turbo lora")
        ).to(device)

    def parameters(self) -> dict[str, Tensor]:
        parts = {"module.": self.module, "lora.": self.lora}
        return {prefix + key: p for prefix, part in parts.items() for key, p in part.named_parameters()}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        frames = FRAMES // 2 if step < self.plan.steps // 2 else FRAMES
        clips = self.plan.batch * FRAMES // 2 // frames
        batch = captioned_clips(self.seed, self.name, step, clips, frames, self.networks.size, self.device)
        for picker in self.pickers:
            picker.pick(batch.frames)
        latents, context = self.networks.prepare(batch)
        entry = torch.randint(1, ORIGINAL_STEPS + 1, (clips,), generator=batch.rng).to(self.device)
        sigma = self.sigmas[entry]
        x = latents + expand(sigma, latents) * draw_noise(batch.rng, latents)
        with torch.no_grad():
            nearer, lower = self.go_down(x, entry, context)
            target = self.predict(nearer, lower.clamp(min=self.sigmas[1]), context)
            # At sigma 0 there is nothing left to learn from the student: the teacher's picture is the target.
            target = torch.where(expand(lower > 0, x), target, nearer)
        error = self.predict(x, sigma, context) - target
        loss = ((error.square() + HUBER**2).sqrt() - HUBER).mean()
        return loss, {"error": error.detach().square().mean().item()}

    def go_down(self, x: Tensor, entry: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's steps from entries of the table, (n,). Returns the clips and their sigmas."""
        sigma = self.sigmas[entry]
        for i in range(1, TEACHER_STEPS + 1):
            lower = self.sigmas[(entry - i * SKIP).clamp(min=0)]
            x, sigma = self.step_down(x, sigma, lower, context), lower
        return x, sigma

    def step_down(self, x: Tensor, sigma: Tensor, lower: Tensor, context: Tensor) -> Tensor:
        """The teacher's step of Euler's method from sigma to lower, both (n,); clips at sigma 0 stay as they are."""
        noised = sigma > 0
        sigma = sigma.clamp(min=self.sigmas[1])  # not to divide by 0; what that gives is not taken
        denoised = self.teach(x, sigma, context)
        nearer = denoised + (x - denoised) * expand(lower / sigma, x)
        return torch.where(expand(noised, x), nearer, x)

    def teach(self, x: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        """The guided teacher's picture in clips x = latents + sigma * noise."""
        contexts = torch.cat([context, self.no_context.expand_as(context)])
        noise = self._noise(self.teacher, 0.0, x.repeat(2, 1, 1, 1, 1), sigma.repeat(2), contexts)
        positive, negative = noise.chunk(2)
        return x - expand(sigma, x) * (negative + TEACHER_CFG * (positive - negative))

    def predict(self, x: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        """The student's picture, in one step."""
        noise = self._noise(self.module, LORA_STRENGTH, x, sigma, context)
        return self.sampling.calculate_denoised(sigma, noise, x)

    def _noise(
        self, module: torch.nn.Module, lora_strength: float, x: Tensor, sigma: Tensor, context: Tensor
    ) -> Tensor:
        self.lora.set_strength(lora_strength)
        timesteps = self.sampling.timestep(sigma).float()
        scaled = x / (1 + expand(sigma, x) ** 2).sqrt()
        with torch.autocast(self.device.type, torch.bfloat16):
            return denoise_clips(self.networks.unet, module, scaled, timesteps, context).float()

    @torch.no_grad()
    def save_weights(self, folder: Path) -> None:
        save_whole(self.module.state_dict(), folder / MODULE_FILE)
        save_whole(unet_lora_file(self.lora.weights(), self.diffusers_names), folder / LORA_FILE)

    @torch.no_grad()
    def save_samples(self, folder: Path) -> None:
        for picker in self.pickers:
            picker.all()
        self.lora.set_strength(LORA_STRENGTH)
        attributes = draw_attributes(seeded(self.seed, "clip samples"), 8, held_out=True)
        clips = self.networks.sample_clips(
            self.module, attributes, self.seed, cfg=2.0, schedule=lcm_sampling(8, ORIGINAL_STEPS)
        )
        save_grid(folder / "turbo.png", clips[:, ::2])
