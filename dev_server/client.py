"""Talks to a running ComfyUI: posts an API prompt, follows it over the websocket, returns what it made."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

Prompt = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Progress:
    """One sign of life: a node began (total 0), or did step of total."""

    node_id: str
    class_type: str
    title: str
    step: int = 0
    total: int = 0


@dataclass(frozen=True)
class Finished:
    """What a prompt made: by node id, what its node showed, as in the host's /history; seconds in all."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]]
    seconds: float

    def files(self, base: Path) -> list[Path]:
        """The files that output and preview nodes wrote, in the folders under the server's base directory."""
        found: list[Path] = []
        for shown in self.outputs.values():
            for entry in (
                entry for entries in shown.values() if isinstance(entries, list) for entry in entries
            ):
                if isinstance(entry, dict) and "filename" in entry:
                    path = base / entry.get("type", "output") / entry.get("subfolder", "") / entry["filename"]
                    found += [] if path in found else [path]
        return found


class PromptRefused(RuntimeError):
    """The server found the prompt invalid; nothing was run."""


class NodeFailed(RuntimeError):
    """A node raised an error. `message` is what the page shows on the node."""

    def __init__(self, node_id: str, class_type: str, message: str, details: dict[str, Any]) -> None:
        super().__init__(f"{class_type} (node {node_id}): {message}")
        self.node_id, self.class_type, self.message, self.details = node_id, class_type, message, details


class Interrupted(RuntimeError):
    """Somebody cancelled the prompt."""


class Client:
    """A client of one server. Methods block; each makes its own connection."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def get(self, path: str) -> Any:
        """The JSON at a path such as `/object_info`."""
        return asyncio.run(self._request("GET", path, None))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Posts JSON; returns the JSON of the answer, or None where it has none, as that of `/interrupt`."""
        return asyncio.run(self._request("POST", path, body))

    def run(
        self,
        prompt: Prompt,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float = 600.0,
    ) -> Finished:
        """Runs an API prompt to its end.

        Errors: PromptRefused, NodeFailed, Interrupted; TimeoutError after `timeout` seconds, with the prompt
        cancelled; ConnectionError when the server goes away.
        """
        return asyncio.run(self._run(prompt, on_progress or (lambda progress: None), timeout))

    async def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        async with aiohttp.ClientSession(self.base_url) as session:
            async with session.request(method, path, json=body) as answer:
                answer.raise_for_status()
                text = await answer.text()
                return json.loads(text) if text else None

    async def _run(self, prompt: Prompt, on_progress: Callable[[Progress], None], timeout: float) -> Finished:
        client_id, start = uuid.uuid4().hex, time.monotonic()
        async with aiohttp.ClientSession(self.base_url) as session:
            async with session.ws_connect(f"/ws?clientId={client_id}", max_msg_size=0) as socket:
                prompt_id = await post_prompt(session, prompt, client_id)
                try:
                    await asyncio.wait_for(follow(socket, prompt, prompt_id, on_progress), timeout)
                except (TimeoutError, asyncio.TimeoutError) as error:
                    await cancel(session, prompt_id)
                    raise TimeoutError(f"The prompt was not done after {timeout:g} s; cancelled.") from error
                except (KeyboardInterrupt, asyncio.CancelledError):
                    await cancel(session, prompt_id)
                    raise
            seconds = time.monotonic() - start
            async with session.get(f"/history/{prompt_id}") as answer:
                history = await answer.json()
        return Finished(prompt_id, history[prompt_id]["outputs"], seconds)


async def post_prompt(session: aiohttp.ClientSession, prompt: Prompt, client_id: str) -> str:
    async with session.post("/prompt", json={"prompt": prompt, "client_id": client_id}) as answer:
        body = await answer.json()
    if answer.status != 200:
        raise PromptRefused(describe_refusal(body))
    return body["prompt_id"]


def describe_refusal(body: dict[str, Any]) -> str:
    """The server's answer to an invalid prompt, as lines that name the nodes."""
    lines = [": ".join(part for part in (body["error"]["message"], body["error"]["details"]) if part)]
    for node_id, node in (body.get("node_errors") or {}).items():
        for error in node["errors"]:
            lines.append(f"{node['class_type']} (node {node_id}): {error['message']}: {error['details']}")
    return "\n".join(lines)


async def follow(
    socket: aiohttp.ClientWebSocketResponse,
    prompt: Prompt,
    prompt_id: str,
    on_progress: Callable[[Progress], None],
) -> None:
    """Reads messages until the prompt is done. Previews, which are binary, are passed over."""
    async for message in socket:
        if message.type != aiohttp.WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        kind, data = event["type"], event.get("data") or {}
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "executing" and data["node"] is None:  # unlike execution_success, after /history has it
            return
        if kind == "execution_error":
            text = data["exception_message"].strip()
            raise NodeFailed(data["node_id"], data["node_type"], text, data)
        if kind == "execution_interrupted":
            raise Interrupted("The prompt was cancelled.")
        if kind in ("executing", "progress"):
            on_progress(describe_progress(prompt, data))
    raise ConnectionError("The server closed the connection before the prompt was done; see its log.")


def describe_progress(prompt: Prompt, data: dict[str, Any]) -> Progress:
    node_id = data["node"]
    node = prompt.get(node_id, {})  # a node that another one expanded into is not in the prompt
    class_type = node.get("class_type", "")
    title = node.get("_meta", {}).get("title", class_type)
    return Progress(node_id, class_type, title, data.get("value", 0), data.get("max", 0))


async def cancel(session: aiohttp.ClientSession, prompt_id: str) -> None:
    async with session.post("/interrupt", json={"prompt_id": prompt_id}):
        pass
