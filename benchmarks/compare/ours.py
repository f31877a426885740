"""This pack, by the functions that its nodes call."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from .contender import Setting, level_of
from .host import MOTION_MODULE, empty_latent, host_conditions, load_model, load_vae, use_host
from .jobs import CRF, FPS, LATENT_SCALE, Job
from .recording import UNetInput

ROOT = Path(__file__).resolve().parents[2]


class Ours:
    latent_scale = LATENT_SCALE

    def __init__(self, setting: Setting) -> None:
        use_host(setting.host, setting.device, setting.dtype)
        from comfy.cli_args import args

        args.force_channels_last = setting.variant == "channels_last"
        from fast_animatediff.motion_modules.adapter import apply_motion_module
        from fast_animatediff.motion_modules.checkpoint import load_motion_module
        from fast_animatediff.motion_modules.motion_settings import MotionSettings

        model = load_model(setting.folder, setting.size)
        if setting.dtype == "bf16" and setting.device == "cpu":
            model = compute_in_bf16(model)
        self.base = model
        self.motion_module = load_motion_module(str(setting.folder / MOTION_MODULE))
        # As the node's own default is; it has no say where a precision is asked for.
        settings = MotionSettings(cpu_bf16=setting.dtype == "auto", fused_kernels=setting.variant == "fused")
        self.model = apply_motion_module(model, self.motion_module, settings)
        self.is_compiled = setting.variant == "compiled"
        if self.is_compiled:
            self.model = compiled(self.model, "inductor" if setting.device == "cuda" else "eager")
        self.vae = load_vae(setting.folder, setting.size)
        self.unet: nn.Module = self.model.model.diffusion_model

    @staticmethod
    def prepare_import(setting: Setting) -> None:
        use_host(setting.host, setting.device, setting.dtype)
        import server  # noqa: F401

        import comfy_api.v0_0_2  # noqa: F401
        import nodes  # noqa: F401  # as the server has it

    @staticmethod
    def import_code(setting: Setting) -> None:
        """By path, as the host does, up to the list of nodes."""
        entry = ROOT / "__init__.py"
        spec = importlib.util.spec_from_file_location("pack", entry, submodule_search_locations=[str(ROOT)])
        package = importlib.util.module_from_spec(spec)
        sys.modules["pack"] = package
        spec.loader.exec_module(package)
        asyncio.run(list_nodes(package))

    def version(self) -> str:
        import comfyui_version

        return f"in ComfyUI {comfyui_version.__version__}"

    def motion_layers(self) -> list[tuple[int, nn.Module]]:
        if self.is_compiled:  # hooks on them would become a part of the graphs
            return []
        named = self.motion_module.model.named_modules()
        return [(level_of(name), layer) for name, layer in named if name.endswith(".temporal_transformer")]

    def read_input(self, args: tuple, kwargs: dict) -> UNetInput:
        return UNetInput(args[0], args[1], kwargs["context"])

    def frames_first(self, x: Tensor, frames: int) -> Tensor:
        return x

    def sample(self, job: Job, latent: Tensor | None = None) -> Tensor:
        from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
        from fast_animatediff.motion_modules.sampling import sample

        scheduler = "trailing" if latent is None else "auto"
        settings = SamplerSettings(job.seed, job.steps, job.cfg, job.strength, "standard", "euler", scheduler)
        start = {"samples": empty_latent(job) if latent is None else latent}
        model = self.model
        if job.layer_windows:
            from fast_animatediff.motion_modules.layer_windows import make_windows
            from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

            model = set_windows(model, make_windows(WindowSettings(16, 4, motion_layers_only=True)))
        return sample(model, *host_conditions(), start, settings)["samples"]

    def first_call(self, path: Path, job: Job) -> Tensor:
        """The UNet's output in the first step with another motion module."""
        from fast_animatediff.motion_modules.adapter import apply_motion_module
        from fast_animatediff.motion_modules.checkpoint import load_motion_module

        usual, found = self.model, []
        self.model = apply_motion_module(self.base, load_motion_module(str(path)))
        hook = self.unet.register_forward_hook(lambda _, __, output: found.append(output.float().cpu()))
        try:
            self.sample(job)
        finally:
            hook.remove()
            self.model = usual
        return found[0]

    def encode(self, images: Tensor) -> Tensor:
        return self.vae.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents)

    def export(self, latents: Tensor, path: Path) -> None:
        from fast_animatediff.video import Export, export_video

        export_video(self.decode(latents), path.parent, path.stem, 1, Export(Fraction(FPS), crf=CRF))


async def list_nodes(package: ModuleType) -> None:
    extension = await package.comfy_entrypoint()
    await extension.get_node_list()


def compute_in_bf16(model: object) -> object:
    """The host's own switch; its detection never chooses bf16 on a CPU."""
    from comfy_extras.nodes_model_advanced import ModelComputeDtype

    return ModelComputeDtype().patch(model, "bf16")[0]


def compiled(model: Any, backend: str) -> Any:
    """As core's TorchCompileModel node does; on a CPU the graphs are traced and left as they are."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    model = model.clone(disable_dynamic=True)
    options = {"guard_filter_fn": skip_torch_compile_dict}
    set_torch_compile_wrapper(model=model, backend=backend, options=options)
    return model


def write_with_host(images: Tensor, path: Path) -> None:
    """What core's Save Video does."""
    from comfy_api.v0_0_2 import InputImpl, Types

    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=Fraction(FPS)))
    video.save_to(str(path), format=Types.VideoContainer.MP4, codec=Types.VideoCodec.H264, crf=CRF)
