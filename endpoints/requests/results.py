"""The videos of ended requests, fetched from ComfyUIs that may be gone tomorrow."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from ..comfyui.client import ComfyUI, ComfyUIGone
from ..inputs.files import new_file, rename
from ..protocol.answers import Video
from ..protocol.failure import MISSING_VIDEO, Refused


class Results:
    """A folder with one folder for each request. host: the ComfyUI around us, whose files need no copy."""

    def __init__(self, folder: Path, host: ComfyUI | None) -> None:
        self.folder, self.host = folder, host

    def path(self, request_id: str, name: str) -> Path:
        return self.folder / request_id / name

    async def fetch(self, video: Video, comfyui: ComfyUI, request_id: str) -> Video:
        """The video as it lies here. Errors: Refused; ComfyUIGone; OSError when it can't be stored."""
        if comfyui is self.host:
            return video
        name = PureWindowsPath(video["filename"]).name  # the last part, whatever the separators
        if not name:
            raise Refused(MISSING_VIDEO)
        target = self.path(request_id, name)
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        async with new_file(target.parent) as file, comfyui.open(video, {}) as answer:
            if answer.status != 200:
                raise Refused(MISSING_VIDEO)
            size = 0
            async for piece in answer.content.iter_chunked(1 << 20):
                size += await asyncio.to_thread(file.write, piece)
            if size != (answer.content_length or size):
                raise ComfyUIGone(f"{comfyui.url} sent only a part of the video.")
            await rename(file, target)
        return Video(
            **{**video, "filename": name, "file_size": size, "worker": "", "subfolder": "", "type": ""}
        )

    def older(self, before: float) -> list[str]:
        """The ids of requests whose results were stored before a time."""
        try:
            return [entry.name for entry in os.scandir(self.folder) if entry.stat().st_mtime < before]
        except OSError:  # there are none yet
            return []

    def remove(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            shutil.rmtree(self.folder / request_id, ignore_errors=True)
