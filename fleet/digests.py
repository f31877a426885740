"""What makes a clip what it is: its input, the workflow, and the names and sizes of the model files in it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import aiohttp

from ..endpoints.comfyui.filling import Prompt, fill
from ..endpoints.protocol.schemas import ENDPOINTS, validate
from ..endpoints.protocol.settings import Settings
from .manifest import Item, digest

Sizes = dict[
    str, list[tuple[str, int]]
]  # by a model file's name, the folders that have it, with its bytes there


async def read_model_sizes(address: str) -> Sizes:
    """The model files of a ComfyUI. Errors: aiohttp.ClientError, asyncio.TimeoutError."""
    sizes: Sizes = {}
    timeout = aiohttp.ClientTimeout(total=60)
    models = f"{address}/experiment/models"
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
        async with session.get(models) as answer:
            folders = [folder["name"] for folder in await answer.json()]
        for folder in folders:
            async with session.get(f"{models}/{folder}") as answer:
                for file in await answer.json():
                    sizes.setdefault(file["name"], []).append((folder, file["size"]))
    return sizes


def clip_digest(item: Item, workflow: Prompt, settings: Settings, sizes: Sizes) -> str:
    """Errors: OSError for a video that can't be read."""
    request = validate(ENDPOINTS[item.endpoint], item.input)
    prompt = fill(ENDPOINTS[item.endpoint], workflow, request, settings).prompt
    named = {value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, str)}
    models: dict[str, Any] = {name: sorted(sizes[name]) for name in sorted(named & sizes.keys())}
    return digest(item.endpoint, item.input, prompt, models, file_digest(item.video) if item.video else None)


def file_digest(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as source:
        while piece := source.read(1 << 20):
            found.update(piece)
    return found.hexdigest()
