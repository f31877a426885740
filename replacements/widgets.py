"""The order in which UI files keep the values of other packs' nodes, read from the packs' own sources."""

from __future__ import annotations

CONTEXT = ("context_length", "context_stride", "context_overlap")
CONTEXT_MORE = ("fuse_method", "use_on_equal_length", "start_percent", "guarantee_steps")
KSAMPLER = ("seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler", "denoise")
MORE_CONTROL = ("strength", "start_percent", "end_percent")
VIDEO = ("video", "force_rate", "force_size", "frame_load_cap", "skip_first_frames", "select_every_nth")
COMBINE = ("frame_rate", "loop_count", "filename_prefix", "format", "pingpong", "save_output")
SCHEDULE = ("text", "max_frames", "print_output", "pre_text", "app_text")

ORDERS: dict[str, tuple[str, ...]] = {
    # AnimateDiff-Evolved
    "ADE_AnimateDiffLoaderWithContext": (
        "model_name",
        "beta_schedule",
        "motion_scale",
        "apply_v2_models_properly",
    ),
    "ADE_AnimateDiffLoaderGen1": ("model_name", "beta_schedule"),
    "ADE_UseEvolvedSampling": ("beta_schedule",),
    "ADE_LoadAnimateDiffModel": ("model_name",),
    "ADE_ApplyAnimateDiffModel": ("start_percent", "end_percent"),
    "ADE_AnimateDiffLoRALoader": ("name", "strength"),
    "ADE_AnimateDiffUniformContextOptions": (*CONTEXT, "context_schedule", "closed_loop", *CONTEXT_MORE),
    "ADE_LoopedUniformContextOptions": (*CONTEXT, "closed_loop", *CONTEXT_MORE),
    "ADE_StandardUniformContextOptions": (*CONTEXT, *CONTEXT_MORE),
    "ADE_StandardStaticContextOptions": ("context_length", "context_overlap", *CONTEXT_MORE),
    "ADE_BatchedContextOptions": ("context_length", "start_percent", "guarantee_steps"),
    "ADE_AnimateDiffSamplingSettings": (
        "batch_offset",
        "noise_type",
        "seed_gen",
        "seed_offset",
        "adapt_denoise_steps",
    ),
    "ADE_MultivalDynamic": ("float_val",),
    "ADE_CustomCFGSimple": ("cfg",),
    "ADE_SigmaSchedule": ("beta_schedule",),
    "ADE_EmptyLatentImageLarge": ("width", "height", "batch_size"),
    "CheckpointLoaderSimpleWithNoiseSelect": (
        "ckpt_name",
        "beta_schedule",
        "use_custom_scale_factor",
        "scale_factor",
    ),
    "ADE_AnimateDiffCombine": COMBINE,
    "ADE_PromptScheduling": ("prompts", "print_schedule", "max_length", "tensor_interp"),
    # VideoHelperSuite, before it kept its values by name
    "VHS_VideoCombine": COMBINE,
    "VHS_LoadVideo": VIDEO,
    "VHS_LoadVideoPath": VIDEO,
    "VHS_LoadImages": ("directory", "", "image_load_cap", "skip_first_images", "select_every_nth"),
    "VHS_LoadImagesPath": ("directory", "image_load_cap", "skip_first_images", "select_every_nth"),
    "VHS_LoadAudioUpload": ("audio", "start_time", "duration"),
    "VHS_SplitImages": ("split_index",),
    "VHS_DuplicateImages": ("multiply_by",),
    "VHS_DuplicateLatents": ("multiply_by",),
    # Advanced-ControlNet
    "ControlNetLoaderAdvanced": ("control_net_name",),
    "DiffControlNetLoaderAdvanced": ("control_net_name",),
    "ACN_ControlNetLoaderAdvanced": ("cnet",),
    "ACN_DiffControlNetLoaderAdvanced": ("cnet",),
    "ACN_AdvancedControlNetApply": MORE_CONTROL,
    "ACN_AdvancedControlNetApply_v2": MORE_CONTROL,
    "TimestepKeyframe": (
        "start_percent",
        "strength",
        "null_latent_kf_strength",
        "inherit_missing",
        "guarantee_steps",
    ),
    "LatentKeyframe": ("batch_index", "strength"),
    "LatentKeyframeTiming": (
        "batch_index_from",
        "batch_index_to_excl",
        "strength_from",
        "strength_to",
        "interpolation",
    ),
    "LatentKeyframeGroup": ("index_strengths",),
    # FizzNodes
    "BatchPromptSchedule": SCHEDULE,
    "BatchPromptScheduleLatentInput": ("text", "print_output", "pre_text", "app_text"),
    # ComfyUI-Frame-Interpolation
    "RIFE VFI": (
        "ckpt_name",
        "clear_cache_after_n_frames",
        "multiplier",
        "fast_mode",
        "ensemble",
        "scale_factor",
    ),
    "FILM VFI": ("ckpt_name", "clear_cache_after_n_frames", "multiplier"),
    # comfyui-animatediff
    "AnimateDiffModuleLoader": ("model_name",),
    "AnimateDiffLoraLoader": ("lora_name", "alpha"),
    "AnimateDiffSlidingWindowOptions": (*CONTEXT, "context_schedule", "closed_loop"),
    "AnimateDiffSampler": ("inject_method", "frame_number", *KSAMPLER),
    "AnimateDiffCombine": (
        "frame_rate",
        "loop_count",
        "save_output",
        "filename_prefix",
        "format",
        "pingpong",
    ),
    # the page's own, and KJNodes'
    "PrimitiveNode": ("value", "control_after_generate"),
    "GetNode": ("name",),
    "SetNode": ("name",),
}
