"""What is private or unstable in ComfyUI, and in the packs beside it, of what the engine uses. Seen in ComfyUI 0.30.0.

The other files take it from here. `tests/motion_modules/test_host_internals.py` names what a host lacks.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

import comfy.ldm.modules.attention
from comfy.ldm.modules.attention import attention_sub_quad
from comfy.model_patcher import ModelPatcher

# The patch that the UNet calls in place of a layer; only the first one that fits a layer is called.
LAYER_PATCH = "forward_timestep_embed_patch"
# Wraps the host's choice of attention, in transformer_options.
ATTENTION = "optimized_attention_override"
# The window handler in model_options, and the window of the current call in transformer_options.
CONTEXT_HANDLER, CONTEXT_WINDOW = "context_handler", "context_window"
# The wrapper by which the host makes room for one window only; clips windowed in the motion layers are in memory whole.
PREPARE_WINDOWS = "ContextWindows_prepare_sampling"
# What the host and other packs keep of a hint after the first step; a copy for other frames must not inherit it.
CONTROL_CACHES = ("cond_hint", "extra_concat", "control_input")


class Executor(Protocol):
    """A link in the host's chain of wrappers; class_obj is the object whose method is wrapped."""

    class_obj: Any

    def __call__(self, *arguments: Any, **options: Any) -> Any: ...


def resblock_layers(block: Any) -> tuple[list[nn.Module], nn.Module, list[nn.Module], nn.Module]:
    """Norm and layers before the time embedding, its projection, norm and layers behind it, the skip connection."""
    return [*block.in_layers], block.emb_layers, [*block.out_layers], block.skip_connection


def keep_model_dtype(new: nn.Module, old: nn.Module) -> None:
    """Carries over the dtype that the host noted for a weight; it loads the weight in that dtype."""
    if hasattr(old, "weight_comfy_model_dtype"):
        new.weight_comfy_model_dtype = old.weight_comfy_model_dtype


def without_dynamic_vram(patcher: ModelPatcher) -> ModelPatcher:
    """A clone outside dynamic VRAM. Its weights are read from disk once and kept with the loaded patcher.

    The host's `get_non_dynamic_delegate` keeps them with the clone that it is asked for, which lives for one run.
    """
    loaded: Any = patcher
    while loaded.parent is not None:
        loaded = loaded.parent
    static = patcher.clone(disable_dynamic=True, model_override=loaded.non_dynamic_delegate_model)
    loaded.non_dynamic_delegate_model = static.get_clone_model_override()
    return static


def fell_back_to_sub_quadratic_attention() -> bool:
    """Whether the host chose its oldest attention; its other modules hold copies of the choice."""
    return comfy.ldm.modules.attention.optimized_attention is attention_sub_quad


def window_frames(window: Any) -> list[int]:
    """The clip's frames in one call, in order; the host's causal fix puts one more in front."""
    anchor = getattr(window, "causal_anchor_index", None)
    return [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list]


def has_windows_of_animatediff_evolved(model: ModelPatcher) -> bool:
    """Whether AnimateDiff-Evolved's context options are on the model: it splits a clip below the host's windows."""
    options = getattr(model.get_attachment("ADE_params"), "context_options", None)
    return getattr(options, "context_length", None) is not None
