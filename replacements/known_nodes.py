"""The nodes that stand in for others: their inputs, their values' order and defaults, and their outputs.

nodes.json is written by `python3 dev.py test tests/replacements/test_known_nodes.py --update-golden` from the host's own
description of them, and that test keeps it so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


class KnownNode(NamedTuple):
    """widgets: name to type and default, in the order of a UI file; sockets and outputs: name to type."""

    widgets: dict[str, tuple[str, Any]]
    sockets: dict[str, str]
    outputs: list[tuple[str, str]]

    def type_of(self, name: str) -> str:
        return self.widgets[name][0] if name in self.widgets else self.sockets.get(name, "*")


NODES_FILE = Path(__file__).with_name("nodes.json")
KNOWN_NODES = {
    name: KnownNode(**entry) for name, entry in json.loads(NODES_FILE.read_text(encoding="utf-8")).items()
}
PAGE_ONLY = ("control_after_generate", "upload")  # widgets that are in UI files and not in API prompts


def filled(type: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs of a new node with the default for each value that is not given."""
    return {**{name: default for name, (_, default) in KNOWN_NODES[type].widgets.items()}, **inputs}
