"""AnimateDiff-Evolved's loaders, and comfyui-animatediff's sampler, with the settings nodes that are plugged into them."""

from __future__ import annotations

from typing import Any

from .graph import Graph, Id, Node, Source, ranged

BETA_SCHEDULES = {
    "autoselect": "auto",
    "sqrt_linear (AnimateDiff)": "sqrt_linear (AnimateDiff)",
    "linear (HotshotXL/default)": "linear (SD1.5)",
    "lcm": "lcm 50 linear (AnimateDiff-Evolved)",
    "lcm >> sqrt_linear": "lcm 50 (LCM-LoRA)",
    "use existing": "linear (SD1.5)",
}
# What each context node calls its way of laying out the windows.
CONTEXT_SCHEDULES = {
    "ADE_AnimateDiffUniformContextOptions": "looped_uniform",
    "ADE_LoopedUniformContextOptions": "looped_uniform",
    "ADE_StandardUniformContextOptions": "standard_uniform",
    "ADE_StandardStaticContextOptions": "standard_static",
    "ADE_BatchedContextOptions": "batched",
    "AnimateDiffSlidingWindowOptions": "looped_uniform",
}
FLAT = (
    "ADE_AnimateDiffUniformContextOptions",
    "ADE_LoopedUniformContextOptions",
    "AnimateDiffSlidingWindowOptions",
)
APPLIERS = ("ADE_ApplyAnimateDiffModel", "ADE_ApplyAnimateDiffModelSimple")
FUSE_METHODS = ("pyramid", "relative", "flat", "overlap-linear")
NOT_CARRIED = {
    "ad_settings": "the changes that it makes to the weights and positions of the motion module",
    "motion_model_settings": "the changes that it makes to the motion module",
    "ad_keyframes": "motion that changes during sampling",
    "per_block": "a strength for each block of the UNet",
    "prev_m_models": "a second motion module on the same model",
}


def evolved_loader(graph: Graph, node: Node) -> None:
    """A MODEL and a motion module in, a MODEL out: a loader of Gen1, or Gen2's Use Evolved Sampling."""
    settings, module = node, None
    if node.type == "ADE_UseEvolvedSampling":
        found = graph.origin(node.source("m_models"))
        if found:
            settings = found[0]
            loader = graph.origin(settings.source("motion_model"))
            if loader is None or loader[0].type != "ADE_LoadAnimateDiffModel":
                graph.note(
                    settings,
                    "its motion module comes from a node that has no replacement; choose one in its place.",
                )
            else:
                if loader[0].source("ad_settings"):
                    graph.note(loader[0], f"not carried over: {NOT_CARRIED['ad_settings']}.")
                if settings.type not in APPLIERS:
                    graph.note(settings, "not carried over: what it does beside applying a motion module.")
            module = motion_module(graph, node, loader[0].inputs.get("model_name") if loader else None)
    else:
        module = motion_module(graph, node, node.inputs.get("model_name"))
    for name, meaning in NOT_CARRIED.items():
        if settings.source(name):
            graph.note(settings, f"not carried over: {meaning} ({name}).")
    model, sampling = node.source("model"), origin_node(graph, node, "sample_settings")
    if module:
        model = graph.add(
            "FAD_ApplyMotionModule",
            node,
            model=model,
            motion_module=module,
            strength=multival(graph, settings, "effect_multival", 1.0, 0.0, 1.0),
            motion_lora=motion_lora(graph, settings.source("motion_lora")),
            motion_scale=motion_scale(graph, settings),
            beta_schedule=beta_schedule(graph, node, sampling),
            start_percent=settings.inputs.get("start_percent", 0.0),
            end_percent=settings.inputs.get("end_percent", 1.0),
            mask=effect_mask(graph, settings),
        )
    if node.inputs.get("apply_v2_models_properly") is False:
        graph.note(
            node, "apply_v2_models_properly is off; this pack always applies v2 modules as they were trained."
        )
    freenoise = sampling is not None and sample_settings(graph, sampling)
    context = origin_node(graph, node, "context_options")
    if context:
        model = context_windows(graph, node, context, model, freenoise)
    elif freenoise:
        graph.note(
            node,
            "FreeNoise is used only with context windows: connect Context Windows and switch it on there.",
        )
    graph.replace(node, {0: model})
    if sampling:
        custom_cfg(graph, sampling, model)


def motion_module(graph: Graph, like: Node, name: Any) -> Source:
    return graph.add("FAD_LoadMotionModule", like, motion_module=name)


def origin_node(graph: Graph, node: Node, name: str) -> Node | None:
    found = graph.origin(node.source(name))
    return found[0] if found else None


def motion_lora(graph: Graph, source: Source | None) -> Source | None:
    """The chain of LoRAs, made once for each place that it is used in."""
    chain: dict[Id, Node] = {}
    while (found := graph.origin(source)) and found[0].id not in chain:
        node = found[0]
        if node.type not in ("ADE_AnimateDiffLoRALoader", "AnimateDiffLoraLoader"):
            graph.note(node, "not carried over: a motion LoRA that comes from here.")
            break
        chain[node.id] = node
        source = node.source("prev_motion_lora") or node.source("lora_stack")
    made = None
    for node in reversed(chain.values()):
        name = node.inputs.get("lora_name", node.inputs.get("name"))
        strength = ranged(graph, node, "alpha" if "alpha" in node.inputs else "strength", 1.0, -2.0, 2.0)
        made = graph.add("FAD_MotionLora", node, motion_lora=name, strength=strength, previous=made)
    return made


def multival(graph: Graph, node: Node, name: str, default: float, least: float, most: float) -> Any:
    """The one number of a multival."""
    value = origin_node(graph, node, name)
    if value is None:
        return default
    if "float_val" not in value.inputs or (value.source("mask_optional") and name != "effect_multival"):
        graph.note(value, f"not carried over: a mask or a list of numbers for {name} of {node.type}.")
    return ranged(graph, value, "float_val", default, least, most)


def effect_mask(graph: Graph, node: Node) -> Source | None:
    value = origin_node(graph, node, "effect_multival")
    return value.source("mask_optional") if value and "float_val" in value.inputs else None


def motion_scale(graph: Graph, node: Node) -> Any:
    if "motion_scale" in node.inputs:
        return ranged(graph, node, "motion_scale", 1.0, 0.0, 2.0)
    return multival(graph, node, "scale_multival", 1.0, 0.0, 2.0)


def beta_schedule(graph: Graph, node: Node, sampling: Node | None) -> str:
    chosen = node.inputs.get("beta_schedule", "autoselect")
    table = origin_node(graph, sampling, "sigma_schedule") if sampling else None
    if table:
        chosen = table.inputs.get("beta_schedule", "a schedule of its own")
    elif chosen == "use existing":
        checkpoint = origin_node(graph, node, "model")
        chosen = checkpoint.inputs.get("beta_schedule", chosen) if checkpoint else chosen
        if chosen == "use existing":
            graph.note(
                node,
                "beta_schedule was 'use existing'; 'linear (SD1.5)' was set, the schedule of plain checkpoints.",
            )
    if chosen not in BETA_SCHEDULES:
        graph.note(node, f"beta_schedule '{chosen}' has no counterpart; 'auto' was set.")
    return BETA_SCHEDULES.get(chosen, "auto")


def sample_settings(graph: Graph, node: Node) -> bool:
    """Whether FreeNoise is on; notes what else differs from the settings that ComfyUI always has."""
    noise = node.inputs.get("noise_type", "default")
    if noise not in ("default", "FreeNoise"):
        graph.note(node, f"not carried over: noise_type '{noise}'.")
    if node.inputs.get("seed_gen", "comfy") != "comfy":
        graph.note(node, f"not carried over: seed_gen '{node.inputs['seed_gen']}'; the frames will differ.")
    names = ("noise_layers", "iteration_opts", "seed_override", "image_inject", "ancestral_opts")
    for name in (*names, "batch_offset", "seed_offset", "adapt_denoise_steps"):
        if node.inputs.get(name):
            giver = origin_node(graph, node, name)
            graph.note(node, f"not carried over: {name}{f' ({giver.type})' if giver else ''}.")
    return noise == "FreeNoise"


def custom_cfg(graph: Graph, sampling: Node, model: Source | None) -> None:
    """Gives the samplers of a model the cfg that overrode theirs."""
    node = origin_node(graph, sampling, "custom_cfg")
    if node is None:
        return
    samplers = samplers_of(graph, model) if model else []
    if "cfg" not in node.inputs or node.source("cfg_extras") or not samplers:
        graph.note(
            node, "not carried over: guidance that overrides the sampler's cfg. Set it on the sampler."
        )
    else:
        for sampler in samplers:
            graph.set_input(sampler, "cfg", node.inputs["cfg"])


def samplers_of(graph: Graph, model: Source) -> list[Node]:
    """Core's samplers that a MODEL reaches, through nodes that change it on the way."""
    found, models = [], [model]
    for source in models:  # grows meanwhile
        for node, name in graph.consumers(source):
            if node.type in ("KSampler", "KSamplerAdvanced"):
                found.append(node)
            elif name in ("model", "") and Source(node.id, 0) not in models:
                models.append(Source(node.id, 0))
    return found


def context_windows(
    graph: Graph, like: Node, node: Node, model: Source | None, freenoise: bool
) -> Source | None:
    schedule = CONTEXT_SCHEDULES.get(node.type)
    if schedule is None:
        graph.note(node, "not carried over: these context options; connect Context Windows and choose there.")
        return model
    fuse = node.inputs.get("fuse_method", "flat" if node.type in FLAT else "pyramid")
    if fuse not in FUSE_METHODS:
        graph.note(node, f"fuse_method '{fuse}' has no counterpart; 'pyramid' was set.")
        fuse = "pyramid"
    ordinary = {"start_percent": 0.0, "guarantee_steps": 1, "use_on_equal_length": False}
    for name in ("prev_context", "view_opts", *ordinary):
        if node.inputs.get(name, ordinary.get(name)) != ordinary.get(name):
            graph.note(node, f"not carried over: {name}.")
    overlap = 0 if schedule == "batched" else ranged(graph, node, "context_overlap", 4, 0, 64)
    return graph.add(
        "FAD_ContextWindows",
        like,
        model=model,
        context_length=ranged(graph, node, "context_length", 16, 2, 128),
        context_overlap=overlap,
        context_schedule=schedule,
        fuse_method=fuse,
        closed_loop=node.inputs.get("closed_loop", False),
        freenoise=freenoise,
        context_stride=ranged(graph, node, "context_stride", 1, 1, 8)
        if node.inputs.get("context_stride")
        else 1,
    )


def animatediff_sampler(graph: Graph, node: Node) -> None:
    """comfyui-animatediff's sampler, which repeats the last latent up to the number of frames."""
    loader = origin_node(graph, node, "motion_module")
    module = motion_module(graph, node, loader.inputs.get("model_name") if loader else None)
    loras = motion_lora(graph, loader.source("lora_stack")) if loader else None
    model = graph.add(
        "FAD_ApplyMotionModule", node, model=node.source("model"), motion_module=module, motion_lora=loras,
        beta_schedule="sqrt_linear (AnimateDiff)",
    )  # fmt: skip
    context = origin_node(graph, node, "sliding_window_opts")
    if context:
        model = context_windows(graph, node, context, model, False) or model
    names = (
        "seed",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
        "positive",
        "negative",
        "denoise",
        "control_after_generate",
    )
    kept = {name: node.inputs.get(name) for name in names}
    latent = repeated_latent(graph, node)
    graph.replace(node, {0: graph.add("KSampler", node, model=model, latent_image=latent, **kept)})


def repeated_latent(graph: Graph, node: Node) -> Source | None:
    latent, frames = node.source("latent_image"), node.inputs.get("frame_number", 16)
    made = origin_node(graph, node, "latent_image")
    if made is None:
        return latent
    if made.type == "EmptyLatentImage" and made.inputs.get("batch_size", 1) == 1:
        copy = {name: value for name, value in made.inputs.items() if name != "batch_size"}
        return graph.add("EmptyLatentImage", node, **copy, batch_size=frames)
    graph.note(
        node,
        f"frame_number is {frames}: the latents must be as many, because KSampler does not repeat the last one.",
    )
    return latent


def unload(graph: Graph, node: Node) -> None:
    """Gives back the model that a loader got, for a second pass without motion."""
    applied, passed = origin_node(graph, node, "model"), set[Id]()
    while applied is not None and applied.type == "FAD_ContextWindows" and applied.id not in passed:
        passed.add(applied.id)
        applied = origin_node(graph, applied, "model")
    if applied is not None and applied.type == "FAD_ApplyMotionModule":
        graph.replace(node, {0: applied.source("model")})
        return
    graph.note(node, "the model before its motion module was not found: connect it by hand.")
    graph.replace(node, {0: node.source("model")})


def checkpoint(graph: Graph, node: Node) -> None:
    """A checkpoint loader with a noise schedule, which only counts where the motion loader says 'use existing'."""
    if node.inputs.get("use_custom_scale_factor"):
        graph.note(node, "not carried over: scale_factor.")
    if node.inputs.get("beta_schedule", "use existing") not in ("use existing", "linear (HotshotXL/default)"):
        if not any(made.type == "FAD_ApplyMotionModule" for made, _ in graph.consumers(Source(node.id, 0))):
            graph.note(
                node, f"beta_schedule '{node.inputs['beta_schedule']}': choose it on Apply Motion Module."
            )
    loader = graph.add("CheckpointLoaderSimple", node, ckpt_name=node.inputs.get("ckpt_name"))
    graph.replace(node, {slot: Source(loader.node, slot) for slot in range(3)})
