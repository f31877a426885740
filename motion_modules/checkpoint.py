"""Motion module files: reading them safely, telling the families apart, building the module.

Formats: guoyww/AnimateDiff (original), diffusers MotionAdapter, ByteDance/AnimateDiff-Lightning, wangfuyun/AnimateLCM,
Lightricks/LongAnimateDiff. All hold the same block layout.
"""

from __future__ import annotations

import logging
import pickle
import re
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils

from . import families
from .families import Family
from .host_internals import archive_model_dtypes, reload_by
from .keys import SPARSE_CONTROL_KEYS, StateDict, describe, is_motion_key, original_name, unwrap
from .model import MotionModule, MotionModuleConfig
from .temporal import sinusoidal_positions

log = logging.getLogger(__name__)

# What the host's readers raise for truncated files and for other kinds of file.
_DAMAGED = (
    SafetensorError,
    ValueError,
    RuntimeError,
    EOFError,
    AttributeError,
    LookupError,
    TypeError,
    struct.error,
)
LORA_FOLDER_ADVICE = (
    "it is a motion LoRA. Put it into models/animatediff_motion_lora and load it with Motion LoRA."
)


def read_weights(path: str) -> StateDict:
    """Reads .safetensors, or .ckpt and the like without running their code (weights_only).

    Errors: ValueError naming the file where it is missing, truncated or not a weights file.
    """
    name = Path(path).name
    if not Path(path).is_file():
        raise ValueError(f"{name} no longer exists. Press R on the page to update the list of files.")
    try:
        return unwrap(comfy.utils.load_torch_file(path, safe_load=True))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{name} is not a plain weights file: it is not a pickle, or loading it would run code. It was not loaded. "
            "Download a .safetensors version from its publisher."
        ) from error
    except torch.OutOfMemoryError:
        raise
    except OSError as error:
        raise ValueError(f"{name} can't be read: {error.strerror or type(error).__name__}.") from error
    except _DAMAGED as error:
        size = Path(path).stat().st_size
        raise ValueError(
            f"{name} can't be read; it has {size:,} bytes and is probably truncated or damaged. Download it again."
        ) from error


def read_motion_module(path: str) -> tuple[MotionModuleConfig, StateDict]:
    """Reads a file of any known layout. Returns what it is, and its weights under the original key names.

    Errors: ValueError that says what the file seems to be and where it belongs.
    """
    name = Path(path).name
    weights = read_weights(path)
    motion = {original_name(key): value for key, value in weights.items() if is_motion_key(key)}
    if any("lora" in key for key in motion):
        raise ValueError(f"{name} is not a motion module: {LORA_FOLDER_ADVICE}")
    if not motion or any(part in key for key in weights for part in ("img_encoder.", *SPARSE_CONTROL_KEYS)):
        raise ValueError(f"{name} is not a motion module: {describe(weights)}")
    if "conv_in.weight" in weights and weights["conv_in.weight"].shape[1] == 9:
        raise ValueError(f"{name} is PIA, an image-to-video module that this pack can't run.")
    tables = [motion.pop(key) for key in list(motion) if key.endswith(".pe")]
    if tables and not _are_sinusoids(tables[:1]):
        log.warning("%s has its own position tables; the usual sinusoids are used instead.", name)
    config = describe_module(path, motion, max((table.shape[-2] for table in tables), default=0))
    return config, motion


def _are_sinusoids(tables: list[Tensor]) -> bool:
    """To the precision of the file, which may be 8 bits."""
    return all(
        (table.float() - sinusoidal_positions(*table.shape[-2:])).abs().max()
        < max(0.01, torch.finfo(table.dtype).eps)
        for table in tables
    )


def describe_module(path: str, motion: StateDict, table_length: int) -> MotionModuleConfig:
    """Derives the config from weights under original names.

    Args:
        path: the names of the file and its folder help to tell the family.
        table_length: of the position tables in the file, 0 where it has none.
    """
    name = Path(path).name
    channels = _channels(name, motion)
    if len(channels) == 3:
        raise ValueError(
            f"{name} is a motion module for SDXL (3 levels). This pack runs SD1.5 motion modules."
        )
    if len(channels) != 4:
        raise ValueError(
            f"{name} has {len(channels)} levels of motion layers; SD1.5 motion modules have 4. It is incomplete."
        )
    has_mid_block = any(key.startswith("mid_block.") for key in motion)
    family, sign = _family(Path(path), has_mid_block, table_length)
    positions = table_length or (64 if family.lcm_steps else family.frames)
    log.info("%s: %s, by %s; %d positions", name, family.name, sign, positions)
    return MotionModuleConfig(name, family, channels, positions, has_mid_block)


def _channels(name: str, motion: StateDict) -> tuple[int, ...]:
    pattern = re.compile(r"down_blocks\.(\d+)\.motion_modules\.0\.temporal_transformer\.norm\.weight")
    found = {int(m[1]): value.shape[0] for key, value in motion.items() if (m := pattern.fullmatch(key))}
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"{name} has motion layers only for levels {sorted(found)}; it is incomplete.")
    return tuple(found[level] for level in range(len(found)))


def _family(path: Path, has_mid_block: bool, table_length: int) -> tuple[Family, str]:
    """The family and the sign it was told by: a word of the name, the position tables or the mid block.

    Lightning is a plain v2 inside, and so is AnimateLCM with tables; only their names tell them.
    """
    if not has_mid_block:
        sign = f"no mid block and {table_length or 'no'} positions"
        return (families.V1 if table_length == 24 else families.V3), sign
    for name, sign in ((path.stem, "its file name"), (path.parent.name, "its folder")):
        words = _words(name)
        if re.search(r"(?<![a-z])(animate)?(diff)?lightning(?![a-z])", words):
            steps = re.search(r"\b(\d+) ?steps?\b", words)
            return families.lightning(int(steps[1]) if steps else 0), sign
        if re.search(r"(?<![a-z])(animate)?lcm(?![a-z])", words):
            return families.ANIMATE_LCM, sign
        if re.search(r"\b(v[123]|v1[45]|temporaldiff|long)\b", words):
            break  # names another family, which its weights tell better
    if table_length == 0:
        log.warning(
            "%s has no position tables, like AnimateLCM, and is treated as AnimateLCM. If it is another module, set "
            "beta_schedule of Apply Motion Module to sqrt_linear (AnimateDiff).",
            path.name,
        )
        return families.ANIMATE_LCM, "its missing position tables"
    if table_length > 32:
        return (families.LONG_32 if table_length <= 64 else families.LONG_64), f"its {table_length} positions"
    return families.V2, "its mid block"


def _words(name: str) -> str:
    """A file name in lower case with a blank between its words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", " ", name).lower()


def load_motion_module(path: str, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Loads a motion module as a host model patcher; its `model` is a MotionModule.

    The signature is the host's: it calls this again where it needs a fresh copy (several GPUs, torch.compile).
    """
    config, weights = read_motion_module(path)
    device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    dtype = _weight_dtype(device, weights)
    module = MotionModule(config, dtype, offload_device, comfy.ops.manual_cast).eval().requires_grad_(False)
    archive_model_dtypes(module)
    # Looked up now: the host's main.py puts the dynamic class in this place.
    patcher_class = (
        comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    )
    patcher = patcher_class(module, load_device=device, offload_device=offload_device)
    _assign(module, weights, config.file_name, assign=patcher.is_dynamic())
    module.merge_projections(comfy.ops.manual_cast)
    reload_by(patcher, load_motion_module, path)
    return patcher


def _weight_dtype(device: torch.device, weights: StateDict) -> torch.dtype:
    """The type the host would give an SD1.5 UNet on this device, but never 8 bits: too coarse for motion weights."""
    parameters = sum(value.numel() for value in weights.values())
    dtype = comfy.model_management.unet_dtype(device=device, model_params=parameters)
    if dtype.itemsize > 1:
        return dtype
    return comfy.model_management.unet_manual_cast(dtype, device) or torch.float16


def _assign(module: MotionModule, weights: StateDict, name: str, assign: bool) -> None:
    expected = {key: value.shape for key, value in module.state_dict().items()}
    missing = sorted(expected.keys() - weights.keys())
    unknown = sorted(weights.keys() - expected.keys())
    wrong = sorted(key for key in expected.keys() & weights.keys() if expected[key] != weights[key].shape)
    for what, keys in (("lacks", missing), ("has unknown", unknown), ("has wrongly sized", wrong)):
        if keys:
            raise ValueError(
                f"{name} {what} weights: {len(keys)} of {len(expected)}, the first is '{keys[0]}'. "
                "It is incomplete, or of a kind that this pack does not support."
            )
    module.load_state_dict(weights, assign=assign)
