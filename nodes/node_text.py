"""Text shown on a node of the page, such as what the engine logs while it runs: warnings belong where people look."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from comfy_execution.utils import get_executing_context
from server import PromptServer

from .. import motion_modules

# The page takes what it shows on a node for HTML, and in Nodes 2.0 for Markdown: both leave these as they are.
MARKUP = {ord(character): f"&#{ord(character)};" for character in "&<>*_`[\\~"}


def show_on_node(lines: list[str], node_id: str) -> None:
    """Shows lines of plain text on a node of the page."""
    server: Any = PromptServer  # its constructor sets `instance`
    server.instance.send_progress_text("  \n".join(lines).translate(MARKUP), node_id)


@contextmanager
def log_on_node() -> Iterator[None]:
    """A decorator for `execute`: the page shows on the node what it and the engine log meanwhile, warnings first.

    The page keeps a node's text until its next one, so such a node should log a line at each run.
    """
    context = get_executing_context()
    if context is None:  # called directly, not by the host
        yield
        return
    handler = _NodeText(context.node_id)
    loggers = [logging.getLogger(name) for name in (motion_modules.__name__, __package__)]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _NodeText(logging.Handler):
    def __init__(self, node_id: str) -> None:
        super().__init__(logging.INFO)
        self.node_id = node_id
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        in_order = sorted(self.records, key=lambda record: -record.levelno)
        show_on_node(list(dict.fromkeys(record.getMessage() for record in in_order)), self.node_id)
