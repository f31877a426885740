"""A subgraph of a UI file as a file of its own: the places where it begins and ends are two nodes more."""

from __future__ import annotations

from .ui_files import Workflow, links_of

BEGIN, END = ("inputNode", "inputs"), ("outputNode", "outputs")


def with_ends(subgraph: Workflow) -> Workflow:
    ends = []
    for end, slots in (BEGIN, END):
        (*place, width, height), id = subgraph[end]["bounding"], subgraph[end]["id"]
        named = f"{slots.title()} of subgraph {subgraph.get('name')}"  # in notes
        ends.append({"id": id, "type": named, "pos": place, "size": [width, height]})
    ends[0]["outputs"] = [{"name": slot["name"]} for slot in subgraph.get("inputs") or []]
    reaching = {link[3]: id for id, link in links_of(subgraph).items() if link[2] == ends[1]["id"]}
    ends[1]["inputs"] = [
        {"name": slot["name"], "type": slot["type"], "link": reaching.get(number)}
        for number, slot in enumerate(subgraph.get("outputs") or [])
    ]
    return {**subgraph, "nodes": [*subgraph["nodes"], *ends]}


def without_ends(written: Workflow) -> Workflow:
    """As the page reads it, where the slots of the two places name their links."""
    for (end, slots), side in ((BEGIN, "origin"), (END, "target")):
        id = written[end]["id"]
        written["nodes"] = [node for node in written["nodes"] if node["id"] != id]
        for number, slot in enumerate(written.get(slots) or []):
            links = (link for link in written["links"] if link[f"{side}_id"] == id)
            slot["linkIds"] = [link["id"] for link in links if link[f"{side}_slot"] == number]
    return written
