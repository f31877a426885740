"""The architecture: Stable Diffusion 1.5 block for block, 64 to 128 channels wide, in the host's own terms.

Chosen so that it trains on two processor cores and all its files together stay near 40 MB:
- 64 channels at the least: the norms have 32 groups, and a group of one channel would lose a picture's flat colours.
- The fourth level is narrow: at 2x2 latents its width costs most of the weights and gives least.
- Attention heads are 32 wide. Heads of 8 channels, as 8 heads of 64 would be, take twice the time on a processor.
"""

from __future__ import annotations

from typing import Any

import torch

import comfy.supported_models
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDClipModel
from comfy.supported_models_base import ClipTarget

LATENT_CHANNELS = 4
CONTEXT = 128  # width of the text encoder's output

# What the host's detection reads out of a checkpoint.
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "model_channels": 64,
    "channel_mult": [1, 1, 2, 1],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": CONTEXT,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
    "adm_in_channels": None,
    "legacy": False,
    "use_checkpoint": False,
}
HEADS = {"num_heads": -1, "num_head_channels": 32}

TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": CONTEXT,
    "intermediate_size": 4 * CONTEXT,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}


class TinyTextEncoder(SDClipModel):
    """CLIP's text encoder, small: (B, 77) standard SD1 tokens to (B, 77, 128)."""

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        model_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=dict(TEXT_ENCODER),
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class TinySD15(comfy.supported_models.SD15):
    """The tiny family for the host's detection; whatever is not said here is as for SD1.5."""

    unet_config = {key: UNET[key] for key in (*comfy.supported_models.SD15.unet_config, "channel_mult")}
    unet_extra_config = HEADS

    def clip_target(self, state_dict: dict[str, torch.Tensor] | None = None) -> ClipTarget:
        target = ClipTarget(SD1Tokenizer, SD1ClipModel)
        target.params = {"clip_model": TinyTextEncoder}
        return target


def register() -> None:
    """Lets the host's checkpoint loaders recognise the tiny family, after all of its own."""
    if TinySD15 not in comfy.supported_models.models:
        comfy.supported_models.models.append(TinySD15)
