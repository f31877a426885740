"""The UNet's own attention layers, whose feed-forward is the peak of its memory, over some frames at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from comfy.ldm.modules.attention import SpatialTransformer

from .cpu import ATTENTION, pytorch_attention

# Largest GEGLU activation in elements: two fifths of that of two clips of 16 frames, 512x512.
FEED_FORWARD_ELEMENTS = 2**27


def attention_in_parts(
    layer: SpatialTransformer, x: Tensor, context: Tensor, transformer_options: dict
) -> Tensor:
    """layer(x) for features x (b, c, h, w), each frame of which is by itself in such a layer.

    In one piece where other packs' code inside may count on the whole batch, as reference attention does, and in a
    compiled graph, where the compiler decides what to keep.
    """
    parts = -(-x.numel() * 8 // FEED_FORWARD_ELEMENTS)
    if parts <= 1 or torch.compiler.is_compiling() or _is_changed_inside(layer, transformer_options):
        return layer(x, context, transformer_options)
    pairs = zip(x.chunk(parts), context.chunk(parts), strict=True)
    return torch.cat([layer(*pair, transformer_options) for pair in pairs])


def _is_changed_inside(layer: SpatialTransformer, transformer_options: dict) -> bool:
    """By the host's patches, by another attention, or by a layer's `forward` put in another's place."""
    patches = transformer_options.get("patches", {})
    return (
        bool(transformer_options.get("patches_replace"))
        or any(name.startswith("attn") or name == "middle_patch" for name in patches)
        or transformer_options.get(ATTENTION, pytorch_attention) is not pytorch_attention
        or any({"forward", "_forward"} & vars(part).keys() for part in layer.modules())
    )
