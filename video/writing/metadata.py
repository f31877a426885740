"""Workflow and prompt in the form in which the page reads them back when a file is dropped on it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from PIL import Image, PngImagePlugin

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
EXIF_MODEL, EXIF_MAKE = 0x0110, 0x010F


def front_end_tags(prompt: Any, extra: Mapping[str, Any] | None) -> dict[str, str]:
    """One JSON text per key: `prompt`, and each key of `extra_pnginfo`, `workflow` among them."""
    tags = {} if prompt is None else {"prompt": prompt}
    return {key: _json(value) for key, value in (tags | dict(extra or {})).items()}


def _json(value: Any) -> str:
    """JSON with the braces inside texts escaped: the page finds the end of the JSON in a WebM by counting braces."""
    return STRING.sub(lambda text: text[0].replace("{", "\\u007b").replace("}", "\\u007d"), json.dumps(value))


def png_text(tags: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    """Text chunks for a PNG."""
    info = PngImagePlugin.PngInfo()
    for key, text in tags.items():
        info.add_text(key, text)
    return info


def webp_exif(tags: Mapping[str, str]) -> bytes:
    """EXIF data for a WebP: `prompt:{...}` as the camera model, the other keys from its make downwards."""
    exif = Image.Exif()
    rest = [f"{key}:{text}" for key, text in tags.items() if key != "prompt"]
    if "prompt" in tags:
        exif[EXIF_MODEL] = f"prompt:{tags['prompt']}"
    for offset, text in enumerate(rest):
        exif[EXIF_MAKE - offset] = text
    return exif.tobytes()
