"""A workflow as nodes with named inputs, whatever the file it came from: what the rules of this room read and change."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Id = int | str
MUTED, BYPASSED = 2, 4  # of a UI file's `mode`
HANDING_ON = ("Reroute", "GetNode", "SetNode")  # the page's own, and KJNodes'


class Source(NamedTuple):
    """One output of a node: what a link begins at."""

    node: Id
    slot: int

    def __str__(self) -> str:
        """In notes, in place of a value."""
        return "connected"


class Note(NamedTuple):
    """What could not be carried over, in words for the person who opens the workflow."""

    node: Id
    type: str
    text: str

    def __str__(self) -> str:
        return f"{self.type} (node {self.node}): {self.text}"


@dataclass
class Node:
    """inputs: by name, a value or the Source it is linked to. like: the node that this one was made for."""

    id: Id
    type: str
    inputs: dict[str, Any]
    mode: int = 0
    like: Node | None = None

    def source(self, name: str) -> Source | None:
        found = self.inputs.get(name)
        return found if isinstance(found, Source) else None


@dataclass
class Graph:
    """last: the highest number that was given to a node."""

    nodes: dict[Id, Node]
    notes: list[Note] = field(default_factory=list)
    replaced: list[Node] = field(default_factory=list)
    last: int = 0

    def __post_init__(self) -> None:
        self.last = max([self.last, *(int(id) for id in self.nodes if str(id).isdecimal())])
        self._has_numbers = all(isinstance(id, int) for id in self.nodes)
        self._order: dict[Id, int] = {}
        self._users: defaultdict[Id, set[Id]] = defaultdict(set)  # by node: those linked to it
        self._named: defaultdict[str, dict[Id, Node]] = defaultdict(dict)  # Set and Get nodes
        for node in self.nodes.values():
            self._know(node)

    def _know(self, node: Node) -> None:
        self._order[node.id] = len(self._order)
        for value in node.inputs.values():
            if isinstance(value, Source):
                self._users[value.node].add(node.id)
        if node.type in ("SetNode", "GetNode"):
            self._named[repr(node.inputs.get("name"))][node.id] = node

    def in_order(self, ids: set[Id]) -> list[Node]:
        """The nodes of these ids that there are."""
        return [self.nodes[id] for id in sorted(ids & self.nodes.keys(), key=self._order.__getitem__)]

    def consumers(self, source: Source) -> list[tuple[Node, str]]:
        """The nodes, with the names of their inputs, that an output is linked to."""
        users = self.in_order(self._users[source.node])
        return [(node, name) for node in users for name, value in node.inputs.items() if value == source]

    def is_used(self, node: Node) -> bool:
        return bool(self._users[node.id])

    def feeding(self, node: Node) -> set[Id]:
        """The nodes that a node gets something from, also by a name."""
        links = {value.node for value in node.inputs.values() if isinstance(value, Source)}
        return links | {other.id for other in self.named_alike(node)} if node.type == "GetNode" else links

    def origin(self, source: Source | None) -> tuple[Node, int] | None:
        """The node that really makes what a link carries: past reroutes, Set and Get nodes and bypassed nodes.

        None where nothing arrives, as behind a muted node or in a circle.
        """
        seen: set[Source] = set()
        while source is not None and source not in seen and source.node in self.nodes:
            seen.add(source)
            node = self.nodes[source.node]
            if node.mode == MUTED:
                return None
            if node.mode != BYPASSED and node.type not in HANDING_ON:
                return node, source.slot
            source = self._passed_on(node)
        return None

    def _passed_on(self, node: Node) -> Source | None:
        if node.type == "GetNode":
            node = next((other for other in self.named_alike(node) if other.type == "SetNode"), node)
        if node.mode == BYPASSED:  # the host passes on what has the output's type
            return next((node.source(name) for name in node.inputs if name.startswith("prev")), None)
        return next((value for value in node.inputs.values() if isinstance(value, Source)), None)

    def named_alike(self, node: Node) -> list[Node]:
        """The Set and Get nodes of the same name."""
        return list(self._named[repr(node.inputs.get("name"))].values())

    def add(self, type: str, like: Node, **inputs: Any) -> Source:
        """A new node in the place and mode of `like`; inputs that are None are left out. Returns its first output."""
        self.last += 1
        number: Id = self.last if self._has_numbers else str(self.last)
        given = {name: value for name, value in inputs.items() if value is not None}
        self.nodes[number] = Node(number, type, given, like.mode, like)
        self._know(self.nodes[number])
        return Source(number, 0)

    def replace(self, old: Node, outputs: dict[int, Source | None]) -> None:
        """Takes `old` away; who was linked to its outputs is linked to `outputs` instead, or to nothing, with a note."""
        self.remove(old)
        self.replaced.append(old)
        for node in self.in_order(self._users.pop(old.id, set())):
            for name, value in list(node.inputs.items()):
                if not isinstance(value, Source) or value.node != old.id:
                    continue
                new = outputs.get(value.slot)
                if new is not None:
                    self.set_input(node, name, new)
                    continue
                del node.inputs[name]
                if node.type not in HANDING_ON:
                    self.note(
                        old,
                        f"output {value.slot} went to {name} of {node.type} (node {node.id}); nothing takes its place.",
                    )

    def set_input(self, node: Node, name: str, value: Any) -> None:
        before = node.inputs.get(name)
        node.inputs[name] = value
        if isinstance(value, Source):
            self._users[value.node].add(node.id)
        used = {each.node for each in node.inputs.values() if isinstance(each, Source)}
        if isinstance(before, Source) and before.node not in used:
            self._users[before.node].discard(node.id)

    def remove(self, node: Node) -> None:
        del self.nodes[node.id]
        for value in node.inputs.values():
            if isinstance(value, Source):
                self._users[value.node].discard(node.id)
        if node.type in ("SetNode", "GetNode"):
            del self._named[repr(node.inputs.get("name"))][node.id]

    def note(self, node: Node, text: str) -> None:
        self.notes.append(Note(node.id, node.type, text))


def ranged(graph: Graph, node: Node, name: str, default: float, least: float, most: float) -> Any:
    """A value of a node inside the range of ours, with a note where it had to be moved; a link as it is."""
    value = node.inputs.get(name, default)
    if isinstance(value, Source):
        return value
    try:
        number = type(default)(value)  # the host takes a text such as "0.8", too
    except (TypeError, ValueError):
        graph.note(node, f"{name} is {value!r}, which is no number: {default:g} was set.")
        return default
    if least <= number <= most:
        return number
    nearest = type(default)(min(max(least, number), most))
    graph.note(
        node, f"{name} is {number:g}, but {least:g} to {most:g} is possible here: {nearest:g} was set."
    )
    return nearest
