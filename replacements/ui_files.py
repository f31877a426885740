"""UI files (schema 0.4 and 1) as graphs, and back. Only what a replacement changes is written anew."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from .graph import Graph, Id, Node, Source
from .known_nodes import KNOWN_NODES, filled
from .widgets import ORDERS

Workflow = dict[str, Any]
WIDTH, GAP, TITLE, ROW = 320, 20, 30, 24
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def written_links(workflow: Workflow) -> dict[int, Any]:
    """The links as they stand in the file, by their ids: lists, or objects that may hold more."""
    links = filter(None, workflow.get("links") or [])
    return {link["id"] if isinstance(link, dict) else link[0]: link for link in links}


def links_of(workflow: Workflow) -> dict[int, tuple[Id, int, Id, int, str]]:
    """By link id: origin and its slot, target and its slot, type."""
    return {
        id: tuple([link.get(name) for name in LINK[1:]] if isinstance(link, dict) else link[1:6])
        for id, link in written_links(workflow).items()
    }


def named_sockets(entry: dict[str, Any]) -> list[tuple[str, Any]]:
    """The inputs of a node with their names; by its place one that has none, or that of an input before it."""
    found: dict[str, Any] = {}
    for number, socket in enumerate(entry.get("inputs") or []):
        name = socket.get("name")
        found[f"input {number}" if not name or name in found else name] = socket
    return list(found.items())


def read_workflow(workflow: Workflow) -> Graph:
    ids = {entry["id"] for entry in workflow["nodes"]}
    links = {id: link for id, link in links_of(workflow).items() if link[0] in ids}
    nodes = {}
    for entry in workflow["nodes"]:
        inputs = values_of(entry)
        for name, socket in named_sockets(entry):
            link = links.get(socket.get("link"))
            if link:
                inputs[name] = Source(link[0], link[1])
        nodes[entry["id"]] = Node(entry["id"], entry["type"], inputs, entry.get("mode", 0))
    return Graph(nodes, last=max(known_numbers(workflow, "node")))


def known_numbers(workflow: Workflow, kind: str) -> Iterator[int]:
    """The last id of a node or a link as the file has it, of either schema; also those of nodes within subgraphs."""
    yield workflow.get(f"last_{kind}_id") or 0
    yield (workflow.get("state") or {}).get(f"last{kind.title()}Id") or 0
    if kind == "node":
        inner = (node for subgraph in subgraphs_of(workflow) for node in subgraph.get("nodes") or [])
        yield from (node["id"] for node in inner if isinstance(node.get("id"), int))


def subgraphs_of(workflow: Workflow) -> list[Workflow]:
    return (workflow.get("definitions") or {}).get("subgraphs") or []


def order_of(type: str) -> list[str]:
    return list(KNOWN_NODES[type].widgets) if type in KNOWN_NODES else list(ORDERS.get(type, ()))


def values_of(entry: dict[str, Any]) -> dict[str, Any]:
    """The values of a node by name, as far as the order of its widgets is known."""
    values = entry.get("widgets_values") or []
    if isinstance(values, dict):
        return {name: value for name, value in values.items() if name != "videopreview"}
    return dict(zip(order_of(entry["type"]), values, strict=False))


def write_workflow(graph: Graph, before: Workflow) -> Workflow:
    """The file with the graph's nodes and links; ids of links that stay are kept."""
    written = copy.deepcopy(before)
    entries = {entry["id"]: entry for entry in written["nodes"]}
    old = {(link[0], link[1], link[2], name): id for id, link, name in named_links(before)}
    kept_links = written_links(written)
    next_link = max([*kept_links, *known_numbers(before, "link")])
    for node in graph.nodes.values():
        if node.like is not None:
            entries[node.id] = new_entry(graph, node, entries[first_like(node).id])
        else:
            patch_values(node, entries[node.id])
    lay_out(graph, entries)
    kept = [entries[id] for id in graph.nodes]
    for entry in kept:
        for output in entry.get("outputs") or []:
            output["links"] = []
    links: dict[int, Any] = {}
    for node in graph.nodes.values():
        for number, (name, socket) in enumerate(named_sockets(entries[node.id])):
            source = node.source(name)
            socket["link"] = None
            if source is None:
                continue
            id = old.get((*source, node.id, name))
            if id is None:
                id = next_link = next_link + 1
            outputs = entries[source.node].get("outputs") or []
            if source.slot < len(outputs):
                outputs[source.slot]["links"].append(id)
            socket["link"] = id
            link = [id, source.node, source.slot, node.id, number, socket.get("type", "*")]
            links[id] = kept_links.get(id) or as_before(link, before)
    written["nodes"] = kept
    written["links"] = [links[id] for id in sorted(links)]
    for place, name in ((written, "last_{}_id"), (written.get("state", {}), "last{}Id")):
        if place is written or place:
            for kind, last in (("node", graph.last), ("link", next_link)):
                key = name.format(kind if place is written else kind.title())
                if key in place:
                    place[key] = max(place[key] or 0, last)
    return written


def named_links(workflow: Workflow) -> list[tuple[int, tuple[Id, int, Id, int, str], str]]:
    """Each link with the name of the input that it leads to."""
    links = links_of(workflow)
    return [
        (socket["link"], links[socket["link"]], name)
        for entry in workflow["nodes"]
        for name, socket in named_sockets(entry)
        if socket.get("link") in links and links[socket["link"]][2] == entry["id"]
    ]


def as_before(link: list[Any], before: Workflow) -> Any:
    """A new link in the form that the file's others have."""
    is_object = "inputNode" in before or any(isinstance(other, dict) for other in before.get("links") or [])
    return dict(zip(LINK, link, strict=True)) if is_object else link


def first_like(node: Node) -> Node:
    """The node of the file that a new one was made for."""
    while node.like is not None:
        node = node.like
    return node


def new_entry(graph: Graph, node: Node, original: dict[str, Any]) -> dict[str, Any]:
    """A node of the file for a new one, where the original is."""
    known, values = KNOWN_NODES[node.type], filled(node.type, node.inputs)
    height = TITLE + ROW * (len(known.widgets) + max(len(known.sockets), len(known.outputs)))
    linked = [name for name in values if isinstance(values[name], Source)]
    sockets: list[dict[str, Any]] = [
        {"name": name, "type": type, "link": None} for name, type in known.sockets.items()
    ]
    sockets += [
        {"name": name, "type": known.type_of(name), "widget": {"name": name}, "link": None}
        for name in linked
        if name in known.widgets
    ]
    defaults = {name: default for name, (_, default) in known.widgets.items()}
    for name in linked:  # the page keeps the value of a PrimitiveNode on both of its ends
        defaults[name] = graph.nodes[values[name].node].inputs.get("value", defaults.get(name))
    return {
        "id": node.id,
        "type": node.type,
        "pos": pair(original.get("pos") or (0, 0)),
        "size": [WIDTH, height],
        "flags": {},
        "order": original.get("order", 0),
        "mode": node.mode,
        "inputs": sockets,
        "outputs": [{"name": name, "type": type, "links": []} for name, type in known.outputs],
        "properties": {"Node name for S&R": node.type},
        "widgets_values": [defaults[name] if name in linked else values[name] for name in known.widgets],
    }


def lay_out(graph: Graph, entries: dict[Id, dict[str, Any]]) -> None:
    """The first new node takes the place of the one that it was made for; others stand above it, where nothing else lies."""
    fixed = {id: entries[id] for id, node in graph.nodes.items() if node.like is None}
    above = []
    for node in graph.nodes.values():
        if node.like is None:
            continue
        original = first_like(node).id
        if original in fixed:
            above.append(entries[node.id])
        else:
            fixed[original] = entries[node.id]
    taken = [box_of(entry) for entry in fixed.values()]
    for entry in above:
        left, top, right, bottom = box_of(entry)
        while hit := [
            box for box in taken if box[0] < right and left < box[2] and box[1] < bottom and top < box[3]
        ]:
            up = bottom + GAP - min(box[1] for box in hit)
            top, bottom = top - up, bottom - up
        entry["pos"][1] = top + TITLE
        taken.append((left, top, right, bottom))


def box_of(entry: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top of the title, right, bottom."""
    (x, y), (width, height) = pair(entry.get("pos") or (0, 0)), pair(entry.get("size") or (WIDTH, ROW))
    return x, y - TITLE, x + width, y + height


def pair(numbers: Any) -> list[float]:
    """Files of 2023 wrote places and sizes as objects with the keys 0 and 1; the page writes null for NaN."""
    first, second = (numbers["0"], numbers["1"]) if isinstance(numbers, dict) else numbers[:2]
    return [first or 0, second or 0]


def patch_values(node: Node, entry: dict[str, Any]) -> None:
    """Writes back what a rule changed in a node that stays, such as a sampler's cfg."""
    values = entry.get("widgets_values")
    if isinstance(values, list):
        for place, name in enumerate(order_of(entry["type"])[: len(values)]):
            if not isinstance(node.inputs.get(name), Source | None):
                values[place] = node.inputs[name]
