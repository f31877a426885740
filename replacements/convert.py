"""Rewrites a workflow made for other AnimateDiff packs, an API prompt or a UI file, to this pack's nodes and core's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .api_prompts import read_prompt, write_prompt
from .graph import HANDING_ON, Graph, Node, Note, Source
from .rules import RULES, is_peer, is_setting
from .subgraphs import with_ends, without_ends
from .ui_files import Workflow, read_workflow, subgraphs_of, write_workflow

GROUP = "a node of another pack inside a group node is left as it is: convert the group node to nodes first."


@dataclass(frozen=True)
class Conversion:
    """replaced: what was taken out, by id and type. left: what other packs' nodes remain. notes: what got lost."""

    document: dict[str, Any]
    replaced: list[tuple[Any, str]]
    left: list[tuple[Any, str]]
    notes: list[Note]


def convert(document: Any, is_wanted: Callable[[str], bool] = is_peer) -> Conversion:
    """The document rewritten; the one that is given is not changed.

    Args:
        document: an API prompt, or a UI file of schema 0.4 or 1.
        is_wanted: tells by its type whether a node is to be replaced, such as where the host does not know it.

    Errors: ValueError where the document is neither, or damaged.
    """
    found = document if isinstance(document, dict) else {}
    is_ui_file = isinstance(found.get("nodes"), list)
    if not is_ui_file and not (
        found and all(isinstance(node, dict) and "class_type" in node for node in found.values())
    ):
        raise ValueError("This is neither a workflow saved by ComfyUI's page nor an API prompt.")
    try:
        if is_ui_file:
            notes = group_notes(document)
            document, graphs = convert_file(document, is_wanted)
        else:
            notes, graphs = [], [read_prompt(document)]
            replace_all(graphs[0], is_wanted)
            document = write_prompt(graphs[0], document) if graphs[0].replaced else document
        left = [
            (node.id, node.type) for graph in graphs for node in graph.nodes.values() if is_peer(node.type)
        ]
        notes = [*(note for graph in graphs for note in graph.notes), *notes]
        replaced = [(node.id, node.type) for graph in graphs for node in graph.replaced]
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"It is not as ComfyUI writes it ({type(error).__name__}: {error}).") from error
    return Conversion(document, replaced, left, notes)


def convert_file(workflow: Workflow, is_wanted: Callable[[str], bool]) -> tuple[Workflow, list[Graph]]:
    """The file and its subgraphs, in which no two nodes have one number."""
    main = read_workflow(workflow)
    graphs, subgraphs = [main], []
    for subgraph in subgraphs_of(workflow):
        opened = with_ends(subgraph)
        graph = read_workflow(opened)
        graph.last = main.last
        replace_all(graph, is_wanted)
        main.last = graph.last
        graphs.append(graph)
        subgraphs.append(without_ends(write_workflow(graph, opened)) if graph.replaced else subgraph)
    replace_all(main, is_wanted)
    if not any(graph.replaced for graph in graphs):
        return workflow, graphs
    if subgraphs:
        workflow = {**workflow, "definitions": {**workflow["definitions"], "subgraphs": subgraphs}}
    return write_workflow(main, workflow), graphs


def replace_all(graph: Graph, is_wanted: Callable[[str], bool]) -> None:
    for type, rule in RULES.items():
        for node in [node for node in graph.nodes.values() if node.type == type and is_wanted(type)]:
            if node.id in graph.nodes:
                rule(graph, node)
    last = set(graph.nodes) if graph.replaced else set()
    while last:
        over = [node for node in graph.in_order(last) if is_over(graph, node, is_wanted)]
        last = set().union(*map(graph.feeding, over))
        for node in over:
            graph.remove(node)
            if node.type not in HANDING_ON:
                graph.replaced.append(node)


def is_over(graph: Graph, node: Node, is_wanted: Callable[[str], bool]) -> bool:
    """Whether nobody uses a node that only served one that is gone: settings, and what handed settings on."""
    if graph.is_used(node):
        return False
    if node.type not in HANDING_ON:
        return is_setting(node.type) and is_wanted(node.type)
    if any(other.type == "GetNode" and node.type == "SetNode" for other in graph.named_alike(node)):
        return False
    found = graph.origin(Source(node.id, 0))
    return found is not None and is_setting(found[0].type) and is_wanted(found[0].type)


def group_notes(workflow: Workflow) -> list[Note]:
    """Of nodes that are out of reach."""
    groups = ((workflow.get("extra") or {}).get("groupNodes") or {}).items()
    grouped = [(name, node) for name, group in groups for node in group.get("nodes") or []]
    return [Note(name, node["type"], GROUP) for name, node in grouped if is_peer(node["type"])]
