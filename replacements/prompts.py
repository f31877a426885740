"""Schedules of prompts: FizzNodes' batch nodes and AnimateDiff-Evolved's."""

from __future__ import annotations

import re
from typing import Any

from .graph import Graph, Node, Source, ranged

NEGATIVE = "--neg"
MOST_FRAMES = 4096  # that Prompt Schedule takes
PROMPT = re.compile(r':\s*"((?:[^"\\]|\\.)*)"')


def batch_prompts(graph: Graph, node: Node) -> None:
    """One schedule for POS; another for NEG where that is used, of what stands behind --neg in each prompt."""
    if "num_latents" in node.inputs:
        frames = number_of_latents(graph, node)
    else:
        frames = ranged(graph, node, "max_frames", 16, 1, MOST_FRAMES)
    for name in ("pw_a", "pw_b", "pw_c", "pw_d"):
        if node.inputs.get(name):
            graph.note(node, f"not carried over: {name}, a number for the prompts' expressions.")
    for name, place in (("start_frame", "pre_text"), ("end_frame", "app_text")):
        number = node.inputs.get(name, node.inputs.get(place))
        if isinstance(number, int) and number not in (0, frames):
            graph.note(node, f"not carried over: {name} ({number}); the schedule is made for the whole clip.")
    text, before, after = (as_text(node.inputs.get(name)) for name in ("text", "pre_text", "app_text"))
    if isinstance(text, str) and "`" in text:
        graph.note(node, "an expression between ` and ` is not computed here: write the number.")
    outputs: dict[int, Source | None] = {2: node.source("num_latents")}
    for slot in (0, 1):
        if not any(graph.consumers(Source(node.id, slot))):
            continue
        if slot and any(isinstance(part, Source) for part in (text, before, after)):
            graph.note(
                node,
                f"a connected text is taken as it is: write what stands behind {NEGATIVE} on the second schedule.",
            )
        outputs[slot] = graph.add(
            "FAD_PromptSchedule",
            node,
            clip=node.source("clip"),
            schedule=half_of_each(text, slot),
            num_frames=frames,
            before=half(before, slot),
            after=half(after, slot),
            interpolation="linear",
        )
    graph.replace(node, outputs)


def as_text(value: Any) -> Any:
    """Files of newer versions have start_frame and end_frame where older ones had texts."""
    return value if isinstance(value, str | Source) else ""


def half(text: Any, side: int) -> Any:
    """What stands before --neg, or with `side` 1 behind it; a connected text as it is."""
    if not isinstance(text, str):
        return text
    parts = text.split(NEGATIVE)
    return parts[side].strip() if side < len(parts) else ""


def half_of_each(schedule: Any, side: int) -> Any:
    """A schedule of one half of each prompt."""
    if not isinstance(schedule, str):
        return schedule
    return PROMPT.sub(lambda found: f': "{half(found[1], side)}"', schedule)


def number_of_latents(graph: Graph, node: Node) -> Any:
    found = graph.origin(node.source("num_latents"))
    if found and "batch_size" in found[0].inputs:
        return found[0].inputs["batch_size"]
    graph.note(node, "the number of frames came from the latents: set num_frames to it.")
    return None


def evolved_prompts(graph: Graph, node: Node) -> None:
    if node.source("values_replace") or node.inputs.get("tensor_interp", "lerp") != "lerp":
        graph.note(node, "not carried over: values_replace and tensor_interp.")
    if node.inputs.get("max_length"):
        frames = ranged(graph, node, "max_length", 16, 1, MOST_FRAMES)
    else:
        frames = None
        graph.note(node, "max_length is 0: set num_frames to the number of frames.")
    made = graph.add(
        "FAD_PromptSchedule",
        node,
        clip=node.source("clip"),
        schedule=node.inputs.get("prompts", ""),
        num_frames=frames,
        before=node.inputs.get("prepend_text", ""),
        after=node.inputs.get("append_text", ""),
        interpolation="linear",
    )
    graph.replace(node, {0: made})
