"""What the engine logs while a node runs, shown on that node: warnings belong where people look."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from comfy_execution.utils import get_executing_context

from .. import motion_modules


@contextmanager
def log_on_node() -> Iterator[None]:
    """A decorator for `execute`: the page shows on the node what the engine logs meanwhile, warnings first.

    The page keeps a node's text until its next one, so such a node should log a line at each run.
    """
    context = get_executing_context()
    if context is None:  # called directly, not by the host
        yield
        return
    handler, logger = _NodeText(context.node_id), logging.getLogger(motion_modules.__name__)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _NodeText(logging.Handler):
    def __init__(self, node_id: str) -> None:
        super().__init__(logging.INFO)
        self.node_id = node_id
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        from server import PromptServer  # it must not be imported before the host has started

        self.records.append(record)
        in_order = sorted(self.records, key=lambda record: -record.levelno)
        text = "\n".join(dict.fromkeys(record.getMessage() for record in in_order))
        PromptServer.instance.send_progress_text(text, self.node_id)  # type: ignore[attr-defined]  # set as it starts
