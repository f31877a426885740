"""Advanced-ControlNet's loaders, Apply and keyframes: core's nodes, with ControlNet Strength behind them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .graph import Graph, Id, Node, Source

APPLIES = (
    "ControlNetApply",
    "ControlNetApplyAdvanced",
    "ACN_AdvancedControlNetApply",
    "ACN_AdvancedControlNetApply_v2",
)
KEYFRAMES = ("timestep_kf", "timestep_keyframe", "tk_optional", "_tk_opt")
LATENT_KEYFRAMES = ("LatentKeyframe", "LatentKeyframeTiming", "LatentKeyframeGroup")
EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "ease-in": lambda x: x**2,
    "ease-out": lambda x: 1 - (1 - x) ** 2,
}
INDEX = re.compile(r"\s*(\d+)\s*(?::\s*(\d+)\s*)?(?:=\s*(\d+\.?\d*|\.\d+)\s*)?")
MOST_FRAMES, MOST_STRENGTH = 4096, 10.0  # that Value Schedule and ControlNet Strength take


@dataclass
class Keyframe:
    """How a control acts. frames: a strength by frame, `other` for those that are not in it."""

    strength: float = 1.0
    frames: dict[int, float] = field(default_factory=dict)
    other: float = 1.0
    mask: Source | None = None


def control_loader(type: str, **names: str) -> Callable[[Graph, Node], None]:
    """names: our input, theirs. The keyframes on a loader go behind each Apply ControlNet that it feeds."""

    def rule(graph: Graph, node: Node) -> None:
        source = first_source(node, KEYFRAMES)
        if source:
            for apply in list(graph.nodes.values()):
                loader = graph.origin(apply.source("control_net")) if apply.type in APPLIES else None
                if loader and loader[0] is node and not apply.source("timestep_kf"):
                    strengthen(graph, apply, timestep_keyframe(graph, source))
        made = graph.add(type, node, **{ours: node.inputs.get(theirs) for ours, theirs in names.items()})
        graph.replace(node, {0: made})

    return rule


def control_apply(graph: Graph, node: Node) -> None:
    """Advanced-ControlNet's Apply: core's, whose hints follow the context windows under this pack's motion module."""
    if node.source("weights_override"):
        graph.note(node, "not carried over: weights_override.")
    found = timestep_keyframe(graph, node.source("timestep_kf"))
    if node.source("latent_kf_override"):
        found.frames, found.other = latent_strengths(graph, node.source("latent_kf_override")), 0.0
    if found.mask and node.source("mask_optional"):
        graph.note(node, "not carried over: the mask of its keyframe, as it has another one of its own.")
    found.mask = node.source("mask_optional") or found.mask
    strengthen(graph, node, found)
    names = ("positive", "negative", "control_net", "image", "strength", "start_percent", "end_percent")
    kept = {name: node.inputs.get(name) for name in names}
    made = graph.add("ControlNetApplyAdvanced", node, **kept, vae=node.source("vae_optional"))
    graph.replace(node, {0: made, 1: Source(made.node, 1), 2: node.source("model_optional")})


def first_source(node: Node, names: tuple[str, ...]) -> Source | None:
    return next(filter(None, map(node.source, names)), None)


def chain_of(graph: Graph, source: Source | None, previous: tuple[str, ...]) -> list[Node]:
    """The nodes that are chained through one of these inputs, the last one first."""
    chain: dict[Id, Node] = {}
    while (found := graph.origin(source)) and found[0].id not in chain:
        chain[found[0].id] = found[0]
        source = first_source(found[0], previous)
    return list(chain.values())


def timestep_keyframe(graph: Graph, source: Source | None) -> Keyframe:
    """The keyframe that acts from the first step on; notes what others would change later."""
    keyframe = Keyframe()
    for node in reversed(chain_of(graph, source, ("prev_timestep_kf", "prev_timestep_keyframe"))):
        if node.type != "TimestepKeyframe":
            graph.note(node, "not carried over: these keyframes.")
            continue
        if node.inputs.get("start_percent", 0.0) != 0.0:
            graph.note(node, "not carried over: a ControlNet whose strength changes during sampling.")
            continue
        if first_source(node, ("cn_weights", "control_net_weights")):
            graph.note(node, "not carried over: weights for each block of the ControlNet.")
        latents = node.source("latent_keyframe")
        keyframe = Keyframe(
            number(graph, node, "strength", 1.0),
            latent_strengths(graph, latents) if latents else {},
            number(graph, node, "null_latent_kf_strength", 0.0) if latents else 1.0,
            node.source("mask_optional"),
        )
    return keyframe


def number(graph: Graph, node: Node, name: str, default: float) -> float:
    value = node.inputs.get(name, default)
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    graph.note(node, f"not carried over: {name} is {value}; {default:g} was set.")
    return default


def latent_strengths(graph: Graph, source: Source | None) -> dict[int, float]:
    """A strength by frame. A single keyframe overrides those before it, others are overridden by them."""
    found: dict[int, float] = {}
    for node in reversed(chain_of(graph, source, ("prev_latent_kf", "prev_latent_keyframe"))):
        if node.type == "LatentKeyframe":
            found[int(number(graph, node, "batch_index", 0))] = number(graph, node, "strength", 1.0)
        elif node.type == "LatentKeyframeTiming":
            found = range_strengths(graph, node) | found
        elif node.type == "LatentKeyframeGroup":
            found = listed_strengths(graph, node) | found
        else:
            graph.note(node, "not carried over: these keyframes.")
    if any(frame < 0 for frame in found):
        graph.note(node, "not carried over: frames that are counted from the end.")
    return {frame: strength for frame, strength in found.items() if frame >= 0}


def range_strengths(graph: Graph, node: Node) -> dict[int, float]:
    first, end = (int(number(graph, node, name, 0)) for name in ("batch_index_from", "batch_index_to_excl"))
    before, after = (number(graph, node, name, 1.0) for name in ("strength_from", "strength_to"))
    kind = node.inputs.get("interpolation", "linear")
    if kind not in EASINGS:
        graph.note(node, f"interpolation '{kind}' has no counterpart; 'linear' was set.")
    ease = EASINGS.get(kind, EASINGS["linear"])
    last = max(end - first - 1, 1)
    return {
        first + i: before + (after - before) * ease(i / last) for i in range(min(end - first, MOST_FRAMES))
    }


def listed_strengths(graph: Graph, node: Node) -> dict[int, float]:
    """Such as `0, 2:16=0.5`."""
    text = node.inputs.get("index_strengths", "")
    found: dict[int, float] = {}
    for part in text.split(",") if isinstance(text, str) else ["connected"]:
        match = INDEX.fullmatch(part)
        if match is None:
            graph.note(node, f"not carried over: the keyframe '{part.strip()}'.")
            continue
        first, end, strength = match.groups()
        for frame in range(int(first), min(int(end), MOST_FRAMES) if end else int(first) + 1):
            found[frame] = float(strength or 1.0)
    return found


def strengthen(graph: Graph, apply: Node, keyframe: Keyframe) -> None:
    """Puts ControlNet Strength behind an Apply, if the keyframe changes anything."""
    if keyframe == Keyframe():
        return
    users = [graph.consumers(Source(apply.id, slot)) for slot in (0, 1)]
    has_two = apply.type != "ControlNetApply"
    made = graph.add(
        "FAD_ControlNetStrength",
        apply,
        positive=Source(apply.id, 0),
        negative=Source(apply.id, 1 if has_two else 0),
        strength=bounded(graph, apply, keyframe.strength),
        strength_per_frame=schedule(graph, apply, keyframe)
        if keyframe.frames or keyframe.other != 1.0
        else None,
        mask=keyframe.mask,
    )
    for slot, consumers in enumerate(users):
        for node, name in consumers:
            graph.set_input(node, name, Source(made.node, slot))


def schedule(graph: Graph, like: Node, keyframe: Keyframe) -> Source:
    frames = clip_frames(graph)
    if frames is None:
        frames = min(max([15, *keyframe.frames]) + 1, MOST_FRAMES)
        graph.note(like, f"set num_frames of its Value Schedule to the number of frames; {frames} was set.")
    last = min(frames, MOST_FRAMES) if isinstance(frames, int) else MOST_FRAMES
    strengths = [
        bounded(graph, like, keyframe.strength * keyframe.frames.get(i, keyframe.other))
        for i in range(min(last, max([0, *keyframe.frames]) + 2))
    ]
    keys = [f"{i}: {value:g}" for i, value in enumerate(strengths) if i == 0 or value != strengths[i - 1]]
    return graph.add(
        "FAD_ValueSchedule", like, schedule=", ".join(keys), num_frames=frames, interpolation="hold"
    )


def bounded(graph: Graph, node: Node, strength: float) -> float:
    """A strength that ControlNet Strength takes, with a note where it is another one."""
    nearest = min(max(strength, 0.0), MOST_STRENGTH)
    if nearest != strength:
        graph.note(node, f"a strength of {strength:g} is out of range: {nearest:g} was set.")
    return nearest


def clip_frames(graph: Graph) -> int | Source | None:
    """The number of frames, or the link that it comes by, where the workflow has one only."""
    names = {
        "EmptyLatentImage": "batch_size",
        "ADE_EmptyLatentImageLarge": "batch_size",
        "AnimateDiffSampler": "frame_number",
        "FAD_EmptyVideoLatent": "num_frames",
    }
    found = (node.inputs.get(names[node.type]) for node in graph.nodes.values() if node.type in names)
    numbers = {number for number in found if isinstance(number, int | Source) and number != 1}
    return numbers.pop() if len(numbers) == 1 else None
