"""AnimateDiff-Evolved from the user's checkout, through its own nodes: Load, Apply, Use Evolved Sampling."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from .contender import Setting, SkippedError, level_of
from .host import MOTION_MODULE, empty_latent, host_conditions, load_model, load_vae, use_host
from .jobs import LATENT_SCALE, Job, Size, noise, trailing_sigmas
from .ours import Ours, compute_in_bf16, write_with_host
from .recording import UNetInput

PACKAGE = "animatediff_evolved"
WINDOW, OVERLAP = 16, 4


class Evolved:
    latent_scale = LATENT_SCALE

    def __init__(self, setting: Setting) -> None:
        if setting.peer is None or not (setting.peer / "animatediff" / "nodes_gen2.py").is_file():
            raise SkippedError(
                "--ade names no checkout of ComfyUI-AnimateDiff-Evolved"
                + (f": no animatediff/nodes_gen2.py in {setting.peer}" if setting.peer else "")
            )
        self.peer = setting.peer
        use_host(setting.host, setting.device, setting.dtype)
        import folder_paths

        import_peer(setting.peer)
        scale_widths(setting.size)
        from animatediff_evolved.animatediff import nodes_context, nodes_gen2

        folder_paths.add_model_folder_path("animatediff_models", str(setting.folder))
        self.base = load_model(setting.folder, setting.size)
        if setting.dtype == "bf16" and setting.device == "cpu":
            self.base = compute_in_bf16(self.base)
        self.motion_model = nodes_gen2.LoadAnimateDiffModelNode().load_motion_model(MOTION_MODULE)[0]
        self.applied = nodes_gen2.ApplyAnimateDiffModelBasicNode().apply_motion_model(self.motion_model)[0]
        windows = nodes_context.StandardStaticContextOptionsNode().create_options(WINDOW, OVERLAP)[0]
        evolve = nodes_gen2.UseEvolvedSamplingNode().use_evolved_sampling
        self.model = evolve(self.base, "autoselect", self.applied)[0]
        self.windowed = evolve(self.base, "autoselect", self.applied, windows)[0]
        self.vae = load_vae(setting.folder, setting.size)
        self.unet: nn.Module = self.model.model.diffusion_model

    @staticmethod
    def prepare_import(setting: Setting) -> None:
        Ours.prepare_import(setting)

    @staticmethod
    def import_code(setting: Setting) -> None:
        import_peer(setting.peer)
        import animatediff_evolved.animatediff.nodes  # noqa: F401

    def version(self) -> str:
        git = ["git", "-C", str(self.peer), "log", "-1", "--format=%h of %cs"]
        found = subprocess.run(git, capture_output=True, text=True)
        named = found.stdout.strip() if (self.peer / ".git").exists() else ""
        project = (self.peer / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        version = next((line.split('"')[1] for line in project if line.startswith("version")), "?")
        return f"{version} {named}".strip()

    def motion_layers(self) -> list[tuple[int, nn.Module]]:
        named = self.motion_model.model.named_modules()
        return [(level_of(name), m) for name, m in named if type(m).__name__ == "VanillaTemporalModule"]

    def read_input(self, args: tuple, kwargs: dict) -> UNetInput:
        return UNetInput(args[0], args[1], kwargs["context"])

    def frames_first(self, x: Tensor, frames: int) -> Tensor:
        return x

    def sample(self, job: Job, latent: Tensor | None = None) -> Tensor:
        """The host's KSampler functions: from noise at the given levels, from a clip at `denoise` as users set it."""
        import comfy.sample
        import comfy.samplers

        model = self.windowed if job.frames > 2 * WINDOW else self.model
        positive, negative = host_conditions()
        if latent is not None:
            return comfy.sample.sample(
                model, noise(job), job.steps, job.cfg, "euler", "normal", positive, negative, latent,
                denoise=job.strength, seed=job.seed, disable_pbar=True,
            )  # fmt: skip
        return comfy.sample.sample_custom(
            model, noise(job), job.cfg, comfy.samplers.sampler_object("euler"), trailing_sigmas(job.steps),
            positive, negative, empty_latent(job), seed=job.seed, disable_pbar=True,
        )  # fmt: skip

    def encode(self, images: Tensor) -> Tensor:
        return self.vae.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents)

    def export(self, latents: Tensor, path: Path) -> None:
        write_with_host(self.decode(latents), path)


def import_peer(folder: Path) -> None:
    """The checkout as a package, as the host would load it, except that its start-up code stays out."""
    package = ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    package.__spec__ = importlib.util.spec_from_loader(PACKAGE, None, is_package=True)
    sys.modules[PACKAGE] = package


def scale_widths(size: Size) -> None:
    """Its levels have SD1.5's 320 to 1280 channels whatever the file says; for a smaller UNet they are scaled."""
    from animatediff_evolved.animatediff import motion_module_ad

    full, real = 320, motion_module_ad.MotionModule
    if size.model_channels != full:
        motion_module_ad.MotionModule = lambda in_channels, *args, **kwargs: real(
            in_channels * size.model_channels // full, *args, **kwargs
        )
