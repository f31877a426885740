"""The host without its server: the same flags and the same loaders for the reference and both contenders that use it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from .jobs import Job, Size, conditions

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
NOT_NEEDED = ("av", "torchaudio", "torchvision", "torchsde", "spandrel", "kornia")
CHECKPOINT, MOTION_MODULE = "sd15.safetensors", "mm_sd15_v2.safetensors"


def use_host(host: Path, device: str, dtype: str) -> None:
    """Makes the host importable, with PyTorch attention, no previews, and one precision for UNet and VAE, or its own choice."""
    if not (host / "comfy").is_dir():
        raise FileNotFoundError(
            f"ComfyUI was not found in {host}. Set COMFYUI_PATH, or run `python3 dev.py bench`."
        )
    sys.path.insert(0, str(host))
    stand_in_for_missing()
    from comfy.cli_args import args

    args.cpu = device == "cpu"
    args.use_pytorch_cross_attention = True
    if dtype != "auto":
        setattr(args, "fp8_e4m3fn_unet" if dtype == "fp8" else f"{dtype}_unet", True)
    if dtype != "auto" and device != "cpu":
        setattr(args, "fp32_vae" if dtype == "fp32" else "bf16_vae", True)


class Absent(ModuleType):
    """A module that is not installed: it can be imported from, its names do nothing."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(name)

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self


class AbsentFinder:
    """Finds the modules of packages that the host imports and SD1.5 never calls."""

    def __init__(self, packages: set[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self.packages:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def stand_in_for_missing() -> None:
    """On a bare GPU machine the host can't be imported as it is, for want of packages that are not needed here."""
    missing = {name for name in NOT_NEEDED if importlib.util.find_spec(name) is None}
    if missing:
        print(f"not installed, and not needed: {', '.join(sorted(missing))}", flush=True)
        sys.meta_path.append(AbsentFinder(missing))


def unet_config(size: Size) -> dict[str, Any]:
    """SD1.5's blocks at the size's width, as the host describes them."""
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": size.model_channels,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 768,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "use_temporal_attention": False,
        "legacy": False,
        "adm_in_channels": None,
        "num_heads": size.heads,
        "num_head_channels": -1,
    }


def vae_config(size: Size) -> dict[str, Any]:
    return {
        "embed_dim": 4,
        "ddconfig": {
            "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
            "ch": size.vae_channels, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
            "dropout": 0.0,
        },
    }  # fmt: skip


def register(size: Size) -> None:
    """Lets the host's checkpoint loader recognise an SD1.5 of this width."""
    import comfy.supported_models

    known = comfy.supported_models.SD15
    sized = type("SizedSD15", (known,), {
        "unet_config": known.unet_config | {"model_channels": size.model_channels},
        "unet_extra_config": {"num_heads": size.heads, "num_head_channels": -1},
    })  # fmt: skip
    if size.model_channels != known.unet_config["model_channels"]:
        comfy.supported_models.models.append(sized)


def load_model(folder: Path, size: Size) -> ModelPatcher:
    """The checkpoint's UNet, by the host's loader."""
    import comfy.sd

    register(size)
    path = str(folder / CHECKPOINT)
    return comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False)[0]


def load_vae(folder: Path, size: Size) -> VAE:
    """The checkpoint's VAE. The host's own detection knows one width only, so the width is named."""
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.load_torch_file(str(folder / CHECKPOINT))
    weights = comfy.utils.state_dict_prefix_replace(weights, {VAE_PREFIX: ""}, filter_keys=True)
    return comfy.sd.VAE(sd=weights, config={"params": vae_config(size)})


def host_conditions() -> tuple[list, list]:
    positive, negative = conditions()
    return [[positive, {}]], [[negative, {}]]


def empty_latent(job: Job) -> torch.Tensor:
    return torch.zeros(job.latent_shape)
