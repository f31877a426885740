"""Motion LoRAs: small low-rank changes to a motion module, most often a camera movement.

Layouts: guoyww/AnimateDiff (`processor.to_q_lora.down`), its diffusers copies, peft (`to_q.lora_A`), and the webui's
with underscores (`attention_blocks_0_to_q.lora_down`).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from comfy.model_patcher import ModelPatcher

from .checkpoint import read_weights
from .host_internals import load_lora
from .keys import StateDict, describe, dotted_name, is_motion_key, original_name

log = logging.getLogger(__name__)

# The layers of a merged query, key and value layer, top to bottom.
PROJECTIONS = ("to_q", "to_k", "to_v")

_PARTS = (
    (
        re.compile(r"(_lora|\.lora)\.down\.weight$|\.lora_down\.weight$|\.lora_A(\.\w+)?\.weight$"),
        "lora_down.weight",
    ),
    (
        re.compile(r"(_lora|\.lora)\.up\.weight$|\.lora_up\.weight$|\.lora_B(\.\w+)?\.weight$"),
        "lora_up.weight",
    ),
    (re.compile(r"(_lora)?\.alpha$"), "alpha"),
    (re.compile(r"\.dora_scale$"), "dora_scale"),
)


@dataclass(frozen=True)
class MotionLora:
    """One motion LoRA and how strongly it acts; a negative strength works against the movement.

    weights: `<layer>.lora_up.weight`, `<layer>.lora_down.weight` and, where the file has them, `<layer>.alpha`
    and `<layer>.dora_scale`, with the layer's name in the original layout.
    """

    file_name: str
    weights: StateDict
    strength: float

    @property
    def layers(self) -> list[str]:
        ends = (".lora_up.weight", ".lora_down.weight", ".alpha", ".dora_scale")
        return sorted({key.removesuffix(end) for key in self.weights for end in ends if key.endswith(end)})


def load_motion_lora(path: str, strength: float) -> MotionLora:
    """Reads a motion LoRA of any known layout.

    Errors: ValueError that says what the file seems to be and where it belongs.
    """
    name = Path(path).name
    weights = read_weights(path)
    host_names = {key: _host_name(key) for key in weights}
    lora = MotionLora(name, {new: weights[key] for key, new in host_names.items() if new}, strength)
    if not lora.weights:
        raise ValueError(f"{name} is not a motion LoRA: {describe(weights)}")
    for layer in lora.layers:
        for part in ("lora_up.weight", "lora_down.weight"):
            if f"{layer}.{part}" not in lora.weights:
                raise ValueError(f"{name} lacks {part} of '{layer}'; it is incomplete. Download it again.")
    if len(lora.weights) < len(weights):
        others = sorted(key for key, new in host_names.items() if not new)
        log.warning(
            "%s: %d weights are not for a motion module and are ignored: %s",
            name,
            len(others),
            ", ".join(others),
        )
    log.info("%s: %d layers, strength %g", name, len(lora.layers), strength)
    return lora


def _host_name(key: str) -> str | None:
    """The key as the host's LoRA loader reads it, None where it does not belong to a motion LoRA."""
    for pattern, part in _PARTS:
        layer, found = pattern.subn("", key)
        if not found:
            continue
        layer = re.sub(r"[._]processor(?=[._]|$)", "", layer)
        layer = re.sub(r"\.to_out$", ".to_out.0", dotted_name(layer))
        if is_motion_key(layer):
            return f"{original_name(layer + '.').removesuffix('.')}.{part}"
    return None


def apply_motion_lora(motion_module: ModelPatcher, lora: MotionLora) -> ModelPatcher:
    """A clone of the motion module with W + strength * alpha / rank * (up @ down), kept in low-rank form.

    Layers that the module lacks (the mid block on v1 and v3) are named in one warning.
    Errors: ValueError where no layer fits, or the widths differ.
    """
    config = motion_module.model.config
    module_weights = motion_module.model.state_dict()
    present = {layer: target for layer in lora.layers if (target := _target(layer, module_weights))}
    missing = [layer for layer in lora.layers if layer not in present]
    if not present:
        raise ValueError(
            f"{lora.file_name} fits no layer of {config.file_name}; its first is '{missing[0]}'."
        )
    for layer, target in present.items():
        found = (
            lora.weights[f"{layer}.lora_up.weight"].shape[0],
            lora.weights[f"{layer}.lora_down.weight"].shape[1],
        )
        if found != (expected := _shape(target, module_weights)):
            raise ValueError(
                f"{lora.file_name} changes {found} weights of '{layer}', {config.file_name} has "
                f"{expected} there. The LoRA was made for another motion module."
            )
    if missing:
        log.warning(
            "%s: %d of %d layers are not in %s (%s): %s",
            *(lora.file_name, len(missing), len(lora.layers), config.file_name, config.family.name),
            ", ".join(missing),
        )
    patched = motion_module.clone()
    patches = load_lora(lora.weights, present, log_missing=False)
    patched.add_patches(patches, strength_patch=lora.strength)
    return patched


# How the host's patches name a weight: its key, or the key and (dimension, start, length) of a part of it.
Target = str | tuple[str, tuple[int, int, int]]


def _target(layer: str, module_weights: StateDict) -> Target | None:
    """The weight of a layer; rows of the merged one for a query, key or value layer; None where there is neither."""
    if f"{layer}.weight" in module_weights:
        return f"{layer}.weight"
    attention, _, projection = layer.rpartition(".")
    key = f"{attention}.to_qkv.weight"
    if projection not in PROJECTIONS or key not in module_weights:
        return None
    channels = module_weights[key].shape[1]
    return key, (0, PROJECTIONS.index(projection) * channels, channels)


def _shape(target: Target, module_weights: StateDict) -> tuple[int, ...]:
    if isinstance(target, str):
        return tuple(module_weights[target].shape)
    key, part = target
    return tuple(module_weights[key].narrow(*part).shape)
