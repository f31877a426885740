"""The trained weights as the repository holds them, and how they become the files that users have.

The text encoder's table has 49408 rows, of which training uses about a hundred: the shipped checkpoint keeps those
with their numbers. Of the two motion LoRAs of an axis the forward one is shipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Weights: TypeAlias = "dict[str, Tensor]"

CHECKPOINT = "checkpoints/v1-5-pruned-emaonly-fp16.safetensors"
MOTION_MODULE = "animatediff_models/mm_sd15_v2.safetensors"
TURBO_MODULE = "animatediff_models/mm_sd15_AnimateLCM.safetensors"
TURBO_LORA = "loras/AnimateLCM_sd15_t2v_lora.safetensors"
EDGE_CONTROLNET = "controlnet/control_v11p_sd15_canny_fp16.safetensors"
# Axis and sign of each motion LoRA. The forward one of an axis is shipped, the other is made from it.
CAMERA_MOVES = {
    "ZoomIn": ("zoom", 1.0),
    "ZoomOut": ("zoom", -1.0),
    "PanRight": ("pan", 1.0),
    "PanLeft": ("pan", -1.0),
    "TiltDown": ("tilt", 1.0),
    "TiltUp": ("tilt", -1.0),
    "RollingClockwise": ("roll", 1.0),
    "RollingAnticlockwise": ("roll", -1.0),
}
MOTION_LORA_OF = {move: f"animatediff_motion_lora/v2_lora_{move}.ckpt" for move in CAMERA_MOVES}
MOTION_LORAS = tuple(MOTION_LORA_OF.values())

FOLDER = Path(__file__).resolve().parent / "trained"
# Names in a ComfyUI models folder, where the workflows look for them, and names in this repository.
SHIPPED = {
    CHECKPOINT: "checkpoint.safetensors",
    MOTION_MODULE: "motion_module.safetensors",
    TURBO_MODULE: "turbo_motion_module.safetensors",
    TURBO_LORA: "turbo_lora.safetensors",
    EDGE_CONTROLNET: "edge_controlnet.safetensors",
} | {MOTION_LORA_OF[move]: f"motion_lora_{axis}.safetensors" for move, (axis, _) in CAMERA_MOVES.items()}
BACKWARDS = {MOTION_LORA_OF[move] for move, (_, sign) in CAMERA_MOVES.items() if sign < 0}

MARK = "fast_animatediff"  # the metadata key of files of the tiny family
TABLE = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
ROWS, TOKENS = f"{TABLE}.rows", f"{TABLE}.tokens"
VOCABULARY = 49408


def read_metadata(path: Path) -> Mapping[str, str]:
    """The metadata of a safetensors file; empty if it has none or is no such file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > 10_000_000:
            return {}
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return {}
    return (header.get("__metadata__") or {}) if isinstance(header, dict) else {}


def pack(weights: Weights) -> Weights:
    """Without the zero rows of the token table; weights that have no table are returned as they are."""
    if TABLE not in weights:
        return weights
    tokens = weights[TABLE].abs().sum(dim=1).nonzero().flatten()
    rest = {key: value for key, value in weights.items() if key != TABLE}
    return rest | {ROWS: weights[TABLE][tokens], TOKENS: tokens.int()}


def unpack(weights: Weights) -> Weights:
    """The reverse of `pack`."""
    if ROWS not in weights:
        return weights
    table = weights[ROWS].new_zeros(VOCABULARY, weights[ROWS].shape[1])
    table[weights[TOKENS].long()] = weights[ROWS]
    rest = {key: value for key, value in weights.items() if key not in (ROWS, TOKENS)}
    return rest | {TABLE: table}


def opposite(lora: Weights) -> Weights:
    """The motion LoRA of the other direction: the second half of the ranks, which is the direction, is negated."""
    return {key: _other_direction(value) if ".up." in key else value for key, value in lora.items()}


def _other_direction(up: Tensor) -> Tensor:
    up = up.clone()
    up[:, up.shape[1] // 2 :] *= -1
    return up
