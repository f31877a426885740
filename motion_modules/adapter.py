"""Puts a motion module on a host model, by the hooks of ModelPatcher.

The UNet is left as it is. One patch is called in place of each residual and attention layer; it calls that layer and
then the temporal transformer that belongs behind it. The motion module travels as an additional model, so that the host
loads, offloads, clones and copies it to other GPUs together with the UNet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy.supported_models import SD15

from .across_frames import FEATURES_KEY, keep_innermost, output_across_frames, resblock_across_frames
from .cpu import (
    can_compute_in_bf16,
    compute_in_bf16,
    in_bf16,
    narrow_clips_in_fp32,
    use_pytorch_attention,
)
from .frame_values import FrameValues
from .fused_kernels import fused_kernels
from .host_internals import (
    CONTEXT_HANDLER,
    LAYER_PATCH,
    Executor,
    ResBlock,
    SpatialTransformer,
    patcher_of,
    without_dynamic_vram,
)
from .layer_windows import LayerWindow, LayerWindowsHandler, in_windows
from .lora import apply_motion_lora
from .model import MotionModule, MotionModuleConfig, follows_attention, last_block
from .motion_settings import BETA_SCHEDULES, MotionSettings, motion_warnings
from .sampling_run import (
    BeginSampling,
    begin_step,
    check_is_whole,
    conditions_by_frame,
    frames_in_call,
    frames_of_clip,
    noise_level,
    window_params,
)
from .schedule import sampling_like
from .spatial import FEED_FORWARD_LIMIT, attention_in_parts
from .still_background import StillBackground
from .temporal import BlockRunner, TemporalTransformerBlock
from .windows import check_frames, run_in_windows

log = logging.getLogger(__name__)

KEY = "fast_animatediff"


@dataclass(frozen=True)
class MotionState:
    """What the layers of one UNet call need.

    strength, motion_scale: a number, or one for each frame (and pixel), see `FrameValues.at`.
    windows: of the motion layers, where a clip is longer than they take. run: how their blocks are computed.
    frames: of each clip in the batch, from 0. A range, as torch.compile takes its length for a constant and guards it;
        a number that changes would become symbolic, and with it every shape.
    """

    module: MotionModule
    strength: float | Tensor
    motion_scale: float | Tensor
    frames: range
    windows: tuple[LayerWindow, ...] = ()
    run: BlockRunner = TemporalTransformerBlock.__call__


@dataclass(frozen=True)
class MotionModuleWrapper:
    """APPLY_MODEL wrapper: hands this device's motion module to the UNet for one call, beside the conditions.

    start_percent, end_percent: where the module acts, on the schedule of the run, which a later node may have set.
    run: how blocks are computed.
    """

    strength: FrameValues
    motion_scale: FrameValues
    start_percent: float
    end_percent: float
    run: BlockRunner

    def __call__(
        self,
        executor: Executor,
        x: Tensor,
        sigma: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: dict | None = None,
        transformer_options: dict | None = None,
        **conds: Any,
    ) -> Tensor:
        options = dict(transformer_options or {})
        patcher = patcher_of(executor)
        motion_modules = patcher.get_additional_models_with_key(KEY)
        if motion_modules:  # a guider of two models calls this for both
            frames = frames_of_clip(x, options)
            options["ad_params"] = params = window_params(frames, options)
            if self._acts_at(sigma, options, executor.class_obj.model_sampling):
                module = motion_modules[0].model
                where = x.device, executor.class_obj.get_dtype_inference()
                module.place_positions(*where)
                handler = patcher.model_options.get(CONTEXT_HANDLER)
                windows = (
                    handler.layer_windows(frames, *where) if isinstance(handler, LayerWindowsHandler) else ()
                )
                check_frames(len(windows[0].frames) if windows else frames, module.config)
                if self.strength.mask is not None:
                    check_is_whole(x, options, "Apply Motion Module")
                place = (*frames_in_call(frames, params), x)
                strength, motion_scale = self.strength.at(*place), self.motion_scale.at(*place)
                conds[KEY] = MotionState(module, strength, motion_scale, range(frames), windows, self.run)
        return executor(x, sigma, c_concat, c_crossattn, control, options, **conds)

    def _acts_at(self, sigma: Tensor, transformer_options: dict, sampling: Any) -> bool:
        if self.strength.is_zero or (self.start_percent <= 0.0 and self.end_percent >= 1.0):
            return not self.strength.is_zero
        first = float("inf") if self.start_percent <= 0.0 else sampling.percent_to_sigma(self.start_percent)
        level = noise_level(sigma, transformer_options)
        return first >= level >= sampling.percent_to_sigma(self.end_percent)


def state_to_layers(
    executor: Executor,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor | None,
    y: Tensor | None,
    control: dict | None,
    transformer_options: dict,
    **kwargs: Any,
) -> Tensor:
    """DIFFUSION_MODEL wrapper: puts the state where the layers find it, in the copy of the options for this call.

    It can't arrive in transformer_options: the host's compile node drops the guards on everything there, so that a
    compiled UNet would keep the first call's frames and strength. As an argument of the UNet it is guarded.
    """
    state = kwargs.pop(KEY, None)
    if state is not None:
        transformer_options[KEY] = state
    return executor(x, timesteps, context, y, control, transformer_options, **kwargs)


def motion_layer(
    layer: ResBlock | SpatialTransformer,
    x: Tensor,
    emb: Tensor,
    context: Tensor | None,
    transformer_options: dict,
    *host_arguments: Any,
) -> Tensor:
    """Called by the host in place of each ResBlock and SpatialTransformer: the layer, then its motion layer."""
    state: MotionState | None = transformer_options.get(KEY)
    is_attention = isinstance(layer, SpatialTransformer)
    if context is not None:
        x = x.to(context.dtype)  # other packs' patches between the layers may have made fp32 of it
    following = _following_patch(layer, transformer_options)
    if following:
        x = following(layer, x, emb, context, transformer_options, *host_arguments)
    elif isinstance(layer, SpatialTransformer):
        x = attention_in_parts(layer, x, context, transformer_options)
        if "transformer_index" in transformer_options:
            transformer_options["transformer_index"] += 1
    elif state and state.module.config.family.norm_across_frames:
        x = resblock_across_frames(layer, x, emb, len(state.frames), state.strength)
    else:
        x = layer(x, emb)
    if state is None:
        return x
    block = transformer_options["block"]
    levels = len(state.module.config.channels)
    transformer = state.module.at(block)
    if transformer is not None and is_attention == follows_attention(block, levels):
        limit = transformer_options.get(FEED_FORWARD_LIMIT, 0)
        values = state.strength, state.motion_scale
        x = in_windows(transformer, x, len(state.frames), state.windows, *values, limit, state.run)
    if block == last_block(levels) and is_attention and FEATURES_KEY in transformer_options:
        transformer_options[FEATURES_KEY].append((x, len(state.frames), state.strength))
    return x


def _following_patch(layer: torch.nn.Module, transformer_options: dict) -> Callable | None:
    """Another pack's patch for this layer: the host calls only the first that matches, so ours calls the next."""
    is_ours_passed = False
    for layer_type, patch in transformer_options["patches"][LAYER_PATCH]:
        if is_ours_passed and isinstance(layer, layer_type):
            return patch
        is_ours_passed = is_ours_passed or patch is motion_layer
    return None


def apply_motion_module(
    model: ModelPatcher, motion_module: ModelPatcher, settings: MotionSettings | None = None
) -> ModelPatcher:
    """A clone of an SD1.5 model that renders its batch as the frames of one clip.

    Errors: ValueError where the model is no SD1.5, its widths are not the module's, or it has a module already.
    """
    settings = settings or MotionSettings()
    config: MotionModuleConfig = motion_module.model.config
    _check_model(model, config)
    computes_in_bf16 = settings.cpu_bf16 and can_compute_in_bf16(model)
    motion_module = in_bf16(motion_module) if computes_in_bf16 else motion_module.clone()
    for lora in settings.loras:
        motion_module = apply_motion_lora(motion_module, lora)
    patched = model.clone()
    patched.set_additional_models(KEY, [motion_module])
    patched.add_callback_with_key(CallbacksMP.ON_CLONE, KEY, follow_memory_mode)
    follow_memory_mode(model, patched)
    table, lcm_steps = BETA_SCHEDULES.get(settings.beta_schedule, ("sqrt_linear", config.family.lcm_steps))
    if "model_sampling" in model.object_patches:
        log.warning(
            "The noise schedule set before Apply Motion Module is replaced by %s's.", config.file_name
        )
    sampling = sampling_like(model.get_model_object("model_sampling"), table, lcm_steps)
    patched.add_object_patch("model_sampling", sampling)
    for warning in motion_warnings(settings):
        log.warning(warning)
    strength, motion_scale = settings.strengths(), settings.motion_scales()
    run = fused_kernels(model.load_device) if settings.fused_kernels else None
    wrapper = MotionModuleWrapper(
        strength,
        motion_scale,
        settings.start_percent,
        settings.end_percent,
        run or TemporalTransformerBlock.__call__,
    )
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, wrapper)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, state_to_layers)
    if config.family.norm_across_frames:
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, FEATURES_KEY, output_across_frames)
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, FEATURES_KEY, keep_innermost)
    run_in_windows(patched)  # first: windows of core's node are checked by what follows
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, BeginSampling(config, strength.masks))
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, conditions_by_frame)
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, begin_step)
    if settings.still_background and strength.mask is not None:
        patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, StillBackground(strength.mask))
    patched.set_model_forward_timestep_embed_patch(((ResBlock, SpatialTransformer), motion_layer))
    patches = patched.model_options["transformer_options"]["patches"][LAYER_PATCH]
    patches.insert(0, patches.pop())
    use_pytorch_attention(patched)
    if computes_in_bf16:
        compute_in_bf16(patched)
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, narrow_clips_in_fp32)
    log.info("%s (%s), strength %s, %s", config.file_name, config.family.name, strength, table)
    return patched


def follow_memory_mode(_: ModelPatcher, patched: ModelPatcher) -> None:
    """ON_CLONE: a model that leaves dynamic VRAM (torch.compile, weight hooks) takes its motion module along."""
    motion_modules = patched.get_additional_models_with_key(KEY)
    if not patched.is_dynamic() and any(module.is_dynamic() for module in motion_modules):
        patched.set_additional_models(KEY, [without_dynamic_vram(module) for module in motion_modules])


def motion_config(model: ModelPatcher) -> MotionModuleConfig | None:
    """The config of the motion module on a model, None where it has none."""
    patchers = model.get_additional_models_with_key(KEY)
    return patchers[0].model.config if patchers else None


def _check_model(model: ModelPatcher, config: MotionModuleConfig) -> None:
    applied = motion_config(model)
    if applied:
        raise ValueError(
            f"This model has a motion module already ({applied.file_name}). Connect the model from before that node."
        )
    model_config = model.model.model_config
    unet, kind = model_config.unet_config, type(model_config).__name__
    if not isinstance(model_config, SD15):
        raise ValueError(f"{config.file_name} needs an SD1.5 checkpoint, but this model is {kind}.")
    if list(unet["num_res_blocks"]) != [2] * len(config.channels):
        raise ValueError(
            f"{config.file_name} needs a UNet with two residual blocks a level; this one (a distilled SD1.5) has "
            f"{unet['num_res_blocks']}. Load an undistilled checkpoint."
        )
    channels = tuple(unet["model_channels"] * factor for factor in unet["channel_mult"])
    if channels != config.channels:
        raise ValueError(
            f"{config.file_name} fits a UNet with channels {config.channels} (an SD1.5 checkpoint has 320, 640, 1280, "
            f"1280), but this model is {kind} with {channels}. Load a checkpoint that the motion module was made for."
        )
