"""API prompts as graphs, and back."""

from __future__ import annotations

from typing import Any

from .graph import Graph, Id, Node, Source
from .known_nodes import PAGE_ONLY, filled

Prompt = dict[str, dict[str, Any]]
WRITERS = ("FAD_ExportVideo", "FAD_DecodeAndExport")


def read_prompt(prompt: Prompt) -> Graph:
    nodes: dict[Id, Node] = {}
    for id, entry in prompt.items():
        inputs = {name: as_source(value) for name, value in entry.get("inputs", {}).items()}
        nodes[id] = Node(id, entry.get("class_type", ""), inputs)
    return Graph(nodes)


def as_source(value: Any) -> Any:
    is_link = (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )
    return Source(*value) if is_link else value


def write_prompt(graph: Graph, before: Prompt) -> Prompt:
    """The prompt with the graph's nodes; those that were there keep what else their entries hold.

    A node that writes a file takes the id of the one that did, by which its client asks for the result.
    """
    written = {}
    for id, node in graph.nodes.items():
        inputs = node.inputs
        if node.like is not None:
            inputs = {key: value for key, value in filled(node.type, inputs).items() if key not in PAGE_ONLY}
        entry = (
            before.get(str(id), {"_meta": {"title": node.type}})
            if node.like is None
            else {"_meta": {"title": node.type}}
        )
        values = {name: list(value) if isinstance(value, Source) else value for name, value in inputs.items()}
        if node.like is not None and node.type in WRITERS:
            id = node.like.id
        written[str(id)] = {**entry, "class_type": node.type, "inputs": values}
    return written
