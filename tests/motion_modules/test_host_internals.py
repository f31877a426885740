"""What the engine uses of the host beyond its public interface is there; a host that lacks some is named."""

from __future__ import annotations

import comfy.context_windows
import comfy.controlnet
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.samplers

USED = {
    comfy.context_windows: [
        "create_prepare_sampling_wrapper",
        "create_sampler_sample_wrapper",
        "get_context_weights",
        "get_matching_context_schedule",
        "get_matching_fuse_method",
        "ContextFuseMethod",
        "IndexListContextWindow",
    ],
    comfy.context_windows.IndexListContextHandler: [
        "get_context_windows",
        "get_resized_cond",
        "prepare_control_objects",
        "should_use_context",
    ],
    comfy.controlnet.ControlBase(): [
        "cond_hint",
        "cond_hint_original",
        "extra_concat_orig",
        "previous_controlnet",
    ],
    comfy.ldm.modules.attention: ["optimized_attention", "attention_pytorch", "attention_sub_quad"],
    comfy.model_management: ["archive_model_dtypes", "cast_to_device"],
    comfy.model_patcher.ModelPatcher: [
        "add_callback_with_key",
        "add_object_patch",
        "add_wrapper_with_key",
        "get_additional_models_with_key",
        "get_attachment",
        "get_clone_model_override",
        "set_additional_models",
        "set_model_compute_dtype",
        "set_model_forward_timestep_embed_patch",
    ],
    comfy.ops: ["cast_bias_weight", "uncast_bias_weight"],
    comfy.patcher_extension.WrappersMP: ["APPLY_MODEL", "DIFFUSION_MODEL", "OUTER_SAMPLE", "SAMPLER_SAMPLE"],
}


def lacking() -> list[str]:
    return [f"{owner}: {name}" for owner, names in USED.items() for name in names if not hasattr(owner, name)]


def test_the_host_has_what_the_engine_uses_of_its_internals():
    assert not lacking(), lacking()


def test_what_a_host_lacks_is_named(monkeypatch):
    monkeypatch.delattr(comfy.ops, "cast_bias_weight")
    (missing,) = lacking()
    assert missing.endswith("cast_bias_weight")


def test_the_wrapper_that_makes_room_for_one_window_has_the_name_that_is_removed():
    from fast_animatediff.motion_modules.host_internals import PREPARE_WINDOWS

    class Model:
        def add_wrapper_with_key(self, kind, key, wrapper):
            self.key = key

    model = Model()
    comfy.context_windows.create_prepare_sampling_wrapper(model)
    assert model.key == PREPARE_WINDOWS
