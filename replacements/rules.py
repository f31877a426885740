"""Which node of another pack is replaced by which rule, and which nodes are only read by the rules of others."""

from __future__ import annotations

from collections.abc import Callable

from .controls import LATENT_KEYFRAMES, control_apply, control_loader
from .graph import Graph, Node
from .motion import CONTEXT_SCHEDULES, animatediff_sampler, checkpoint, evolved_loader, unload
from .prompts import batch_prompts, evolved_prompts
from .videos import VIDEO_RULES

Rule = Callable[[Graph, Node], None]


def renamed(type: str, **names: str) -> Rule:
    """A node that core has, too. names: our input, theirs."""

    def rule(graph: Graph, node: Node) -> None:
        made = graph.add(type, node, **{ours: node.inputs.get(theirs) for ours, theirs in names.items()})
        graph.replace(node, {0: made})

    return rule


# In the order in which they are used: a loader looks at the checkpoint loader that it gets its model from.
RULES: dict[str, Rule] = {
    "ADE_AnimateDiffLoaderWithContext": evolved_loader,
    "ADE_AnimateDiffLoaderGen1": evolved_loader,
    "ADE_UseEvolvedSampling": evolved_loader,
    "AnimateDiffSampler": animatediff_sampler,
    "ADE_AnimateDiffUnload": unload,
    "BatchPromptSchedule": batch_prompts,
    "BatchPromptScheduleLatentInput": batch_prompts,
    "ADE_PromptScheduling": evolved_prompts,
    "CheckpointLoaderSimpleWithNoiseSelect": checkpoint,
    "ADE_EmptyLatentImageLarge": renamed(
        "EmptyLatentImage", width="width", height="height", batch_size="batch_size"
    ),
    "ControlNetLoaderAdvanced": control_loader("ControlNetLoader", control_net_name="control_net_name"),
    "ACN_ControlNetLoaderAdvanced": control_loader("ControlNetLoader", control_net_name="cnet"),
    "DiffControlNetLoaderAdvanced": control_loader(
        "DiffControlNetLoader", model="model", control_net_name="control_net_name"
    ),
    "ACN_DiffControlNetLoaderAdvanced": control_loader(
        "DiffControlNetLoader", model="model", control_net_name="cnet"
    ),
    "ACN_AdvancedControlNetApply": control_apply,
    "ACN_AdvancedControlNetApply_v2": control_apply,
    "VHS_VAEDecodeBatched": renamed("VAEDecode", samples="samples", vae="vae"),
    "VHS_VAEEncodeBatched": renamed("VAEEncode", pixels="pixels", vae="vae"),
    "VHS_DuplicateLatents": renamed("RepeatLatentBatch", samples="latents", amount="multiply_by"),
    **VIDEO_RULES,
}

# Carried over by the rules of the nodes that they are plugged into.
SETTINGS = {
    *CONTEXT_SCHEDULES,
    "ADE_LoadAnimateDiffModel",
    "ADE_ApplyAnimateDiffModel",
    "ADE_ApplyAnimateDiffModelSimple",
    "ADE_AnimateDiffLoRALoader",
    "ADE_AnimateDiffSamplingSettings",
    "ADE_MultivalDynamic",
    "ADE_MultivalDynamicFloatInput",
    "ADE_CustomCFGSimple",
    "ADE_SigmaSchedule",
    "AnimateDiffModuleLoader",
    "AnimateDiffLoraLoader",
    "VHS_VideoInfoLoaded",
    "VHS_PruneOutputs",
    "TimestepKeyframe",
    *LATENT_KEYFRAMES,
}
# Settings that nothing here has: they go with the node that they are plugged into, which says so.
LOST = (
    "ADE_AnimateDiffSettings", "ADE_AdjustPE", "ADE_AdjustWeight", "ADE_AnimateDiffModelSettings", "ADE_AnimateDiffKeyframe",
    "ADE_ADBlock", "ADE_PerBlock", "ADE_CustomCFG", "ADE_CFGExtras", "ADE_IterationOpts", "ADE_NoiseLayer", "ADE_Multival",
    "ADE_NoisedImageInj", "ADE_AncestralOptions", "ADE_RawSigmaSchedule", "ADE_SigmaSchedule", "ADE_ContextExtras",
    "ADE_ViewsOnly", "ADE_StandardStaticView", "ADE_StandardUniformView", "ADE_LoopedUniformView", "VHS_VideoInfo",
    "VHS_BatchManager", "LatentKeyframeBatchedGroup", "ACN_TimestepKeyframe", "ScaledSoftControlNetWeights",
    "ACN_ScaledSoftControlNetWeights", "SoftControlNetWeights", "CustomControlNetWeights",
)  # fmt: skip


def is_setting(type: str) -> bool:
    return type in SETTINGS or type.startswith(LOST)


def is_peer(type: str) -> bool:
    """Whether a node belongs to a pack whose nodes are replaced here."""
    return type in RULES or is_setting(type) or type.startswith(("ADE_", "VHS_", "ACN_", "AnimateDiff"))
