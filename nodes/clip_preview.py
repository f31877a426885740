"""What the page shows of a chosen clip: a line of text, and a small mp4 where the browser can't play the file itself."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from aiohttp import web

import folder_paths

from ..video import ClipDescription, describe_clip, write_preview
from .input_clips import check_clip, contained_path, open_clip
from .load_video import typed_selection

ROUTE = "/fast-animatediff/clip"
FOLDER = "fast-animatediff-previews"  # of the temp folder, which the host empties at its start
FOLDER_FPS = Fraction(8)  # of a folder of pictures whose rate isn't known here
SELECTION = ("first_n_seconds", "fps", "start_seconds", "max_frames", "size")


def add_clip_routes(routes: web.RouteTableDef) -> None:
    """Adds `description`, a line of text, and `preview`, an mp4, of a file in the input, output or temp folder.

    Each works on one clip at a time, however many pages ask. 422 where there is no preview; the description says why.
    """
    describing, writing = asyncio.Lock(), asyncio.Lock()

    @routes.get(f"{ROUTE}/description")
    async def description(request: web.Request) -> web.StreamResponse:
        values = dict(request.query)
        async with describing:
            return web.Response(text=await asyncio.to_thread(described, values))

    @routes.get(f"{ROUTE}/preview")
    async def preview(request: web.Request) -> web.StreamResponse:
        try:
            async with writing:
                path = await asyncio.to_thread(preview_file, request.query.get("file", ""))
        except (ValueError, OSError):
            raise web.HTTPUnprocessableEntity() from None
        return web.FileResponse(path, headers={"Cache-Control": "no-cache"})


def described(values: dict[str, str]) -> str:
    """The line for a file and a selection, as the node's widgets have them; the reason where it can't be loaded.

    Without all of the selection, as where a widget is linked, only what the file is.
    """
    file = values.get("file", "")
    try:
        reason = check_clip(file)
        if isinstance(reason, str):
            return reason
        whole = all(name in values for name in SELECTION)
        seconds, fps, start, most = (typed_number(values, name) for name in SELECTION[:4])
        selection = typed_selection(seconds, fps, start, int(most))
        with open_clip(file, selection.fps or (Fraction(0) if whole else FOLDER_FPS)) as source:
            told = describe_clip(source, selection, values.get("size", "source"))
    except (ValueError, OverflowError, OSError) as error:
        return str(error)
    return f"{of_file(told)} \u2192 {of_frames(told)}" if whole else of_file(told)


def typed_number(values: dict[str, str], name: str) -> float:
    """The number of a widget, 0 where it is linked; ValueError where the widget holds none."""
    typed = values.get(name, "0")
    with suppress(ValueError):
        if math.isfinite(value := float(typed)):
            return value
    raise ValueError(f"{name} must be a number, not '{typed}'.")


def of_file(told: ClipDescription) -> str:
    """Such as `4.2 s, 1920x1080, 24 fps`, as far as the file says."""
    length = f"{float(told.duration):.1f} s" if told.duration else None
    rate = f"{number(told.rate)} fps" if told.rate else None
    return ", ".join(filter(None, (length, f"{told.width}x{told.height}", rate)))


def of_frames(told: ClipDescription) -> str:
    """Such as `24 frames at 8 fps, 512x512`."""
    frames = "its frames" if told.frames is None else f"{told.frames} frame{'s' * (told.frames != 1)}"
    rate = f" at {number(told.fps)} fps" if told.fps else ""
    return f"{frames}{rate}, {told.frame_width}x{told.frame_height}"


def number(rate: Fraction) -> str:
    """At most two digits after the point."""
    return f"{round(float(rate), 2):g}"


def preview_file(file: str) -> Path:
    """The preview of a file, written once for each of its states."""
    path = contained_path(file)
    status = os.stat(path)
    state = hashlib.sha256(f"{path}:{status.st_mtime_ns}:{status.st_size}".encode()).hexdigest()[:24]
    preview = Path(folder_paths.get_temp_directory(), FOLDER, f"{state}.mp4")
    if not preview.exists():
        preview.parent.mkdir(parents=True, exist_ok=True)
        with open_clip(file, FOLDER_FPS) as source:
            write_preview(source, preview)
    return preview
