"""The page that asked for a run, so that what is sent reaches it alone, and which of its workflows it runs."""

from __future__ import annotations

from typing import Any

from server import PromptServer

from comfy_api.v0_0_2 import io


def send_text(text: str, node_id: str) -> None:
    """Lets the page show a text on a node. Nobody gets it where no page asked, as for a prompt of the API."""
    server: Any = PromptServer  # its constructor sets `instance`
    if server.instance.client_id is not None:
        server.instance.send_progress_text(text, node_id, server.instance.client_id)


def send_event(event: str, message: dict[str, Any]) -> None:
    """Sends something to this pack's extension of the page."""
    server: Any = PromptServer
    if server.instance.client_id is not None:
        server.instance.send_sync(event, message, server.instance.client_id)


def workflow_id(hidden: io.HiddenHolder | None) -> str | None:
    """The id of the workflow that runs; nodes of others in the same page have the same ids as its nodes."""
    found: Any = hidden.extra_pnginfo if hidden is not None else None
    for name in ("workflow", "id"):
        found = found.get(name) if isinstance(found, dict) else None  # a program may have sent anything
    return found if isinstance(found, str) else None
