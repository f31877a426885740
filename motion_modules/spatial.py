"""The UNet's own attention layers, run on a few frames at a time: their feed-forward is its peak of memory."""

from __future__ import annotations

import torch
from torch import Tensor

import comfy.model_management

from .cpu import pytorch_attention
from .host_internals import ATTENTION, SpatialTransformer

# Largest GEGLU activation in elements: two fifths of that of two clips of 16 frames, 512x512.
FEED_FORWARD_ELEMENTS = 2**27
# In transformer_options: what `feed_forward_limit` found when the run began.
FEED_FORWARD_LIMIT = "fast_animatediff_feed_forward"


def feed_forward_limit(device: torch.device) -> int:
    """Elements of the widest activation that take a sixteenth of the memory free on a card, at two bytes each.

    A CPU keeps to the constants: smaller pieces stay in its caches, and there is nothing to launch.
    """
    return 0 if device.type == "cpu" else int(comfy.model_management.get_free_memory(device)) // 32


def attention_in_parts(
    layer: SpatialTransformer, x: Tensor, context: Tensor | None, transformer_options: dict
) -> Tensor:
    """layer(x) for features x (b, c, h, w); such a layer treats each frame alone.

    In one piece where other packs' code inside may rely on the whole batch, as reference attention does, and in a
    compiled graph, where the compiler decides what to keep. On a CPU such code also gets the type that it expects there,
    which is the weights' and not that of `cpu.compute_in_bf16`.
    """
    limit = max(transformer_options.get(FEED_FORWARD_LIMIT, 0), FEED_FORWARD_ELEMENTS)
    assert context is not None  # SD1.5 always has a prompt
    parts = -(-x.numel() * 8 // limit)
    own_type = layer.norm.weight.dtype if x.device.type == "cpu" else x.dtype
    if (parts <= 1 and x.dtype == own_type) or torch.compiler.is_compiling():
        return layer(x, context, transformer_options)
    if _is_changed_inside(layer, transformer_options):
        return layer(x.to(own_type), context.to(own_type), transformer_options).to(x.dtype)
    if parts <= 1:
        return layer(x, context, transformer_options)
    pairs = zip(x.chunk(parts), context.chunk(parts), strict=True)
    return torch.cat([layer(*pair, transformer_options) for pair in pairs])


def _is_changed_inside(layer: SpatialTransformer, transformer_options: dict) -> bool:
    """Whether patches, another attention or a replaced `forward` act within the layer."""
    patches = transformer_options.get("patches", {})
    return (
        bool(transformer_options.get("patches_replace"))
        or any(name.startswith("attn") or name == "middle_patch" for name in patches)
        or transformer_options.get(ATTENTION, pytorch_attention) is not pytorch_attention
        or any({"forward", "_forward"} & vars(part).keys() for part in layer.modules())
    )
