"""Text shown on a node of the page, such as what the engine logs while it runs: warnings belong where people look."""

from __future__ import annotations

import logging

from comfy_execution.utils import ExecutionContext, get_executing_context

from .. import motion_modules, video
from .asking_page import send_event, send_text

EVENT = "fast-animatediff.text"  # for this pack's extension of the page, which makes room for it
# The page takes what it shows on a node for HTML, and in Nodes 2.0 for Markdown: both leave these as they are.
MARKUP = {ord(character): f"&#{ord(character)};" for character in "&<>*_`[\\~"}


def show_on_node(lines: list[str], node_id: str) -> None:
    """Shows lines of plain text on a node of the page."""
    send_text("  \n".join(lines).translate(MARKUP), node_id)
    send_event(EVENT, {"node": node_id, "text": "\n".join(lines)})


def show_log_on_nodes() -> None:
    """Lets the page show on the node that runs, core's samplers included, what this pack logs meanwhile."""
    handler = _NodeText(logging.INFO)
    for name in (motion_modules.__name__, video.__name__, __package__):
        logging.getLogger(name).addHandler(handler)


class _NodeText(logging.Handler):
    """Warnings come first. The page keeps a node's text until its next one, so a node should log a line at each run."""

    node: ExecutionContext | None = None
    records: tuple[logging.LogRecord, ...] = ()

    def emit(self, record: logging.LogRecord) -> None:
        node = get_executing_context()
        if node is None:  # called directly, not by the host
            return
        self.records = (*self.records, record) if node is self.node else (record,)
        self.node = node
        in_order = sorted(self.records, key=lambda record: -record.levelno)
        show_on_node(list(dict.fromkeys(record.getMessage() for record in in_order)), node.node_id)
