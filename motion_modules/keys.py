"""Key names: every published layout translated to the original one, and what an unknown file seems to be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from torch import Tensor

StateDict = dict[str, Tensor]

_PREFIXED_MOTION_KEY = re.compile(
    r"(?:.*\.)?((?:down_blocks|up_blocks|mid_block)\.(?:\d+\.)?motion_modules\..*)"
)
_MOTION_KEY = re.compile(r"^(down_blocks|up_blocks|mid_block)\.(\d+\.)?motion_modules\.\d+\.")
SPARSE_CONTROL_KEYS = ("controlnet_cond_embedding.", "controlnet_down_blocks.")
_ATTENTIONS = ("attention_blocks.0", "attention_blocks.1", "attn1", "attn2")
# diffusers MotionAdapter to original, in this order.
_DIFFUSERS_NAMES = (
    (re.compile(r"(motion_modules\.\d+\.)(?!temporal_transformer\.)"), r"\1temporal_transformer."),
    (re.compile(r"\.norm([12])\."), lambda m: f".norms.{int(m[1]) - 1}."),
    (re.compile(r"\.norm3\."), ".ff_norm."),
    (re.compile(r"\.attn([12])\."), lambda m: f".attention_blocks.{int(m[1]) - 1}."),
)


def unwrap(weights: dict) -> StateDict:
    """The tensors of a file, without the nested dicts and prefixes (such as `module.`) that training code adds."""
    tensors: StateDict = {}
    for key, value in weights.items():
        if isinstance(value, dict):
            tensors |= unwrap(value)
        elif isinstance(value, Tensor):
            motion = _PREFIXED_MOTION_KEY.match(key)
            tensors[motion[1] if motion else key] = value
    return tensors


def is_motion_key(key: str) -> bool:
    return _MOTION_KEY.match(key) is not None


def original_name(key: str) -> str:
    """The key's name in the original layout; a key already in it is returned unchanged."""
    for pattern, name in _DIFFUSERS_NAMES:
        key = pattern.sub(name, key)
    return key


def dotted_name(layer: str) -> str:
    """A layer's name with its dots where webui LoRAs have underscores; any other name is returned unchanged.

    Those files name layers `down_blocks_0_motion_modules_0_temporal_transformer_proj_in`, some after `lora_unet_`.
    """
    return _underscored_layers().get(layer.removeprefix("lora_unet_"), layer)


@cache
def _underscored_layers() -> dict[str, str]:
    places = [f"down_blocks.{level}.motion_modules.{i}" for level in range(4) for i in range(2)]
    places += [f"up_blocks.{level}.motion_modules.{i}" for level in range(4) for i in range(3)]
    places += ["mid_block.motion_modules.0"]
    block = "transformer_blocks.0"
    attention = [f"{block}.{a}.to_{p}" for a in _ATTENTIONS for p in ("q", "k", "v", "out", "out.0")]
    layers = ["proj_in", "proj_out", f"{block}.ff.net.0.proj", f"{block}.ff.net.2", *attention]
    names = [
        f"{place}.{stem}{layer}"
        for place in places
        for stem in ("temporal_transformer.", "")
        for layer in layers
    ]
    return {name.replace(".", "_"): name for name in names}


def describe(keys: Iterable[str]) -> str:
    """What a file with these keys seems to be, and where it belongs: the second half of an error message."""
    keys = list(keys)
    for found, description in _KINDS:
        if any(found in key for key in keys):
            return description
    first = f"its first key is '{keys[0]}'" if keys else "it holds no tensors"
    return f"its keys are not recognized ({first}). Check that the download is the right file."


# Searched in this order: the first text found in any key decides.
_KINDS = (
    (
        "img_encoder.",
        "it is AnimateLCM-I2V, an image-to-video module that this pack can't run. Use AnimateLCM_sd15_t2v.",
    ),
    (
        "temporal_attentions.",
        "it is a HotshotXL module for SDXL. This pack runs SD1.5 motion modules; choose one of those.",
    ),
    (
        "qkv_merge",
        "it is a CameraCtrl encoder, which this pack can't run. For camera moves use the Motion LoRA node.",
    ),
    *(
        (
            key,
            "it is a SparseCtrl file, which this pack can't run, or a ControlNet: put that into models/controlnet and load it with a "
            "ControlNet node.",
        )
        for key in SPARSE_CONTROL_KEYS
    ),
    (
        "control_model.",
        "it is a ControlNet. Put it into models/controlnet and load it with core's Load ControlNet Model node.",
    ),
    (
        "input_hint_block",
        "it is a ControlNet. Put it into models/controlnet and load it with core's Load ControlNet Model node.",
    ),
    (
        "model.diffusion_model.",
        "it is a checkpoint. Put it into models/checkpoints and load it with core's Load Checkpoint node.",
    ),
    (
        "lora",
        "it is a LoRA for the image model (such as the v3 domain adapter). Put it into models/loras "
        "and load it with core's Load LoRA node.",
    ),
    (
        "motion_modules.",
        "it is a motion module. Put it into models/animatediff_models and load it with Load Motion Module.",
    ),
    (
        "first_stage_model.",
        "it is a VAE. Put it into models/vae and load it with core's Load VAE node.",
    ),
    (
        "decoder.conv_in.",
        "it is a VAE. Put it into models/vae and load it with core's Load VAE node.",
    ),
)
