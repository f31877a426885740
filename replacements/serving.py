"""The two doors to a conversion on the host's server: API prompts that hold other packs' nodes, and the page's question."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web

import nodes

from .convert import convert
from .rules import is_peer

if TYPE_CHECKING:
    from server import PromptServer

ROUTE = "/fast_animatediff/replacements"
log = logging.getLogger(__name__)


def is_missing(type: str) -> bool:
    """Whether a node belongs to another AnimateDiff pack that is not installed here. Installed ones are left alone."""
    return is_peer(type) and type not in nodes.NODE_CLASS_MAPPINGS


def add_replacements(server: PromptServer) -> None:
    """Before the host checks an API prompt, and where the page asks: replaces nodes of packs that are not installed."""
    server.add_on_prompt_handler(replace_in_prompt)
    server.routes.post(ROUTE)(answer)


def replace_in_prompt(request: dict[str, Any]) -> dict[str, Any]:
    """The body of a request to /prompt; what could not be carried over is in the log, node by node."""
    prompt = request.get("prompt")
    if not isinstance(prompt, dict) or not any(map(is_missing, types_of(prompt))):
        return request
    try:
        conversion = convert(prompt, is_missing)
    except ValueError as error:
        log.warning("Fast AnimateDiff left the nodes of other packs in a prompt as they are: %s", error)
        return request
    for note in conversion.notes:
        log.warning("Fast AnimateDiff replaced %s", note)
    return {**request, "prompt": conversion.document}


def types_of(prompt: dict[str, Any]) -> list[str]:
    return [str(node.get("class_type")) for node in prompt.values() if isinstance(node, dict)]


async def answer(request: web.Request) -> web.Response:
    """POST of a UI file: the file with the nodes replaced, which were, which stay, and what is lost, as sentences."""
    try:
        conversion = await asyncio.to_thread(convert, await request.json(), is_missing)
    except ValueError as error:
        return web.json_response({"error": f"This workflow can't be read: {error}"}, status=400)
    return web.json_response(
        {
            "workflow": conversion.document,
            "replaced": [type for _, type in conversion.replaced],
            "left": [type for _, type in conversion.left],
            "notes": list(map(str, conversion.notes)),
        }
    )
