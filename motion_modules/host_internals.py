"""What is private or unstable in ComfyUI, and in the packs beside it, of what the engine uses. Seen in ComfyUI 0.30.0.

The other files take it from here. What has a place in the host's documentation (`ModelPatcher`, wrappers, callbacks,
`comfy.sample`, `comfy.utils`) is imported where it is used. `tests/motion_modules/test_host_internals.py` names what a
host lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

import comfy.ldm.modules.attention
from comfy.conds import CONDConstant, CONDRegular

# Context windows, marked experimental in the host; the file grew from 400 to 1066 lines within a year.
from comfy.context_windows import ContextFuseMethod as ContextFuseMethod
from comfy.context_windows import ContextFuseMethods as ContextFuseMethods
from comfy.context_windows import ContextSchedules as ContextSchedules
from comfy.context_windows import IndexListContextHandler as IndexListContextHandler
from comfy.context_windows import IndexListContextWindow as IndexListContextWindow
from comfy.context_windows import create_prepare_sampling_wrapper as create_prepare_sampling_wrapper
from comfy.context_windows import create_sampler_sample_wrapper as create_sampler_sample_wrapper
from comfy.context_windows import get_context_weights as get_context_weights
from comfy.context_windows import get_matching_context_schedule as get_matching_context_schedule
from comfy.context_windows import get_matching_fuse_method as get_matching_fuse_method
from comfy.context_windows import ordered_halving

# What any ControlNet derives from, and how one of a chain is asked without those before it.
from comfy.controlnet import ControlBase as ControlBase
from comfy.controlnet import ControlIsolation as ControlIsolation

# The layers of its UNet, and the kernels of its attention by name.
from comfy.ldm.modules.attention import SpatialTransformer as SpatialTransformer
from comfy.ldm.modules.attention import attention_pytorch as attention_pytorch
from comfy.ldm.modules.attention import attention_sub_quad
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock as ResBlock

# Low-rank patches, also of a slice of a merged weight.
from comfy.lora import load_lora as load_lora

# Notes each weight's dtype, in which the host loads it; without, fp16 weights of a file arrive as fp32.
from comfy.model_management import archive_model_dtypes as archive_model_dtypes
from comfy.model_patcher import ModelPatcher

# Noise schedules: what a model predicts, and its table.
from comfy.model_sampling import EDM as EDM
from comfy.model_sampling import EPS as EPS
from comfy.model_sampling import IMG_TO_IMG as IMG_TO_IMG
from comfy.model_sampling import V_PREDICTION as V_PREDICTION
from comfy.model_sampling import X0 as X0
from comfy.model_sampling import ModelSamplingDiscrete as ModelSamplingDiscrete
from comfy.model_sampling import rescale_zero_terminal_snr_sigmas as rescale_zero_terminal_snr_sigmas

# A weight as a layer's call sees it: moved, cast and patched.
from comfy.ops import cast_bias_weight as cast_bias_weight
from comfy.ops import uncast_bias_weight as uncast_bias_weight

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
# A model's compute dtype among its object patches, set by set_model_compute_dtype.
COMPUTE_DTYPE = "manual_cast_dtype"


class Executor(Protocol):
    """A link in the host's chain of wrappers; class_obj is the object whose method is wrapped."""

    class_obj: Any

    def __call__(self, *arguments: Any, **options: Any) -> Any: ...


def patcher_of(executor: Executor) -> ModelPatcher:
    """The patcher whose model an APPLY_MODEL wrapper was called for."""
    return executor.class_obj.current_patcher


def output_layers(executor: Executor) -> tuple[nn.Module, list[nn.Module]]:
    """The UNet's output norm, and the layers behind it, in a DIFFUSION_MODEL wrapper."""
    norm, *layers = executor.class_obj.out
    return norm, layers


def resblock_layers(block: Any) -> tuple[list[nn.Module], nn.Module, list[nn.Module], nn.Module]:
    """Norm and layers before the time embedding, its projection, norm and layers behind it, the skip connection."""
    return [*block.in_layers], block.emb_layers, [*block.out_layers], block.skip_connection


def keep_model_dtype(new: nn.Module, old: nn.Module) -> None:
    """Carries over the dtype that the host noted for a weight; it loads the weight in that dtype."""
    if hasattr(old, "weight_comfy_model_dtype"):
        new.weight_comfy_model_dtype = old.weight_comfy_model_dtype


def reload_by(patcher: ModelPatcher, load: Callable, path: str) -> None:
    """How the host makes a fresh copy, for several GPUs and outside dynamic VRAM: load(path, disable_dynamic=...)."""
    patcher.cached_patcher_init = (load, (path,))


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


def rows_of_condition(value: Any) -> Tensor | None:
    """The tensor of a condition that may have one row a frame (CONDRegular), None for any other."""
    if not isinstance(value, CONDRegular) or isinstance(value, CONDConstant):
        return None
    return value.cond if isinstance(value.cond, Tensor) and value.cond.ndim > 1 else None


def condition_with(value: Any, rows: Tensor) -> CONDRegular:
    """The same condition with other rows."""
    return value._copy_with(rows)


def window_frames(window: Any) -> list[int]:
    """The clip's frames in one call, in order; the host's causal fix puts one more in front."""
    anchor = getattr(window, "causal_anchor_index", None)
    return [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list]


def loop_start(handler: IndexListContextHandler, frames: int) -> int:
    """The frame with which a clip begins at the current step, spread over it as in the host's uniform schedules."""
    return round(frames * ordered_halving(handler._step))


def has_windows_of_animatediff_evolved(model: ModelPatcher) -> bool:
    """Whether AnimateDiff-Evolved's context options are on the model: it splits a clip below the host's windows."""
    options = getattr(model.get_attachment("ADE_params"), "context_options", None)
    return getattr(options, "context_length", None) is not None


def needs_whole_clip(model_options: dict) -> str | None:
    """The core node on a model that keeps something of one UNet call for the next, which is of another window then."""
    patches = model_options.get("sampler_post_cfg_function", ())
    if any("SelfAttentionGuidance" in getattr(patch, "__qualname__", "") for patch in patches):
        return "Self-Attention Guidance"
    cache = model_options.get("transformer_options", {}).get("easycache")  # LazyCache is there, too
    return "EasyCache" if getattr(cache, "name", None) == "EasyCache" else None
