"""From a stored request to the prompt that a ComfyUI can run: its video is fetched and put there, its values filled in."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .comfyui import ComfyUI, ComfyUIGone, Prompt, PromptRefused
from .failure import Failure, Refused, refuse, wrong_field
from .filling import Filled, fill
from .jobs import Job, Jobs
from .progress import Log
from .requests import ENDPOINTS, InvalidRequest, validate
from .settings import Settings
from .uploads import Uploads
from .videos import HostFile, VideoError, fetch, host_file, own_path

LEFTOVER_SECONDS = 6 * 3600.0
RESULT = re.compile(r"/fal/files/([0-9a-f-]{36})/[^/?]+")


class Preparation:
    """Prepares requests with these workflows.

    comfyuis: by url, those whose results may be an input; host is the one that this runs in. folder: for what is
    fetched; what a killed process left there is removed.
    """

    def __init__(
        self,
        settings: Settings,
        workflows: Mapping[str, Prompt],
        host: ComfyUI,
        comfyuis: Mapping[str, ComfyUI],
        jobs: Jobs,
        uploads: Uploads,
        folder: Path,
    ) -> None:
        self.settings, self.workflows, self.host, self.comfyuis = settings, workflows, host, comfyuis
        self.jobs, self.uploads, self.folder = jobs, uploads, folder
        _remove_leftovers(folder)

    def fill(self, job: Job, request: dict[str, Any], video: str | None, log: Log) -> Filled:
        endpoint = ENDPOINTS[job.endpoint]
        try:
            model = validate(endpoint, request)
        except InvalidRequest as error:  # accepted by another version of this pack
            raise Refused(Failure(422, error.detail)) from error
        filled = fill(endpoint, self.workflows[job.endpoint], model, video, self.settings)
        for note in filled.notes:
            log.say(note)
        # A name of its own: the host answers an equal prompt from its cache, with a file that may be gone.
        export = filled.prompt[filled.export_node]["inputs"]
        if isinstance(export.get("filename_prefix"), str):
            export["filename_prefix"] += f"-{job.id}"
        return filled

    async def upload_input(self, job: Job, request: dict[str, Any], comfyui: ComfyUI, log: Log) -> str | None:
        """The name under which Load Video Frames finds the video on that ComfyUI; None where there is no video."""
        if not ENDPOINTS[job.endpoint].takes_video:
            return None
        try:
            return await self._upload_input(job, request["video_url"], comfyui, log)
        except VideoError as error:
            raise Refused(Failure(422, error.detail)) from error
        except PromptRefused as error:
            raise refuse(500, str(error), "runner_server_error") from error
        except OSError as error:
            if isinstance(error, ComfyUIGone):
                raise
            raise refuse(500, f"The video can't be stored: {error.strerror}.", "internal_error") from error

    async def discard_input(self, job: Job, comfyui: ComfyUI) -> None:
        try:
            await comfyui.discard_input(job.id)
        except (ComfyUIGone, PromptRefused):
            pass  # its temp folder, where the video is, is emptied when it starts

    async def _upload_input(self, job: Job, url: str, comfyui: ComfyUI, log: Log) -> str:
        is_data = url[:5].lower() == "data:"  # which may be large, so that nothing else shall look at it
        path = None if is_data else own_path(url, (job.address, self.host.url))
        owner, file = await self._own_file(url, path, job) if path else (comfyui, None)
        if file and owner is comfyui:
            if await owner.describe(place(file)) is None:
                raise Refused(NO_FILE)
            return file.annotated
        uploaded = self.uploads.find(path) if path else None
        if uploaded:
            return await comfyui.upload_input(uploaded, job.id)
        log.say("Fetching the video")
        self.folder.mkdir(parents=True, exist_ok=True)
        fetched = self.folder / f"{job.id}{Path(file.name).suffix}" if file else None
        try:
            if file:
                await copy_file(owner, file, fetched)
            else:
                fetched = await fetch(url, self.folder, self.settings)
            return await comfyui.upload_input(fetched, job.id)
        finally:
            if fetched:
                fetched.unlink(missing_ok=True)

    async def _own_file(self, url: str, path: str, job: Job) -> tuple[ComfyUI, HostFile | None]:
        """A file that a ComfyUI has: named by the host's /view, or the result of an earlier request."""
        found = RESULT.match(path)
        earlier = await self.jobs.get(found[1]) if found else None
        if earlier and earlier.result and earlier.result["worker"] in self.comfyuis:
            result = earlier.result
            file = HostFile(result["filename"], result["subfolder"], result["type"])
            return self.comfyuis[result["worker"]], file
        return self.host, host_file(url, (job.address, self.host.url)) if job.has_view else None


def _remove_leftovers(folder: Path) -> None:
    """Old files only: another ComfyUI with the same user folder may be fetching one now."""
    for entry in folder.glob("*"):
        with suppress(OSError):
            if entry.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
                entry.unlink()


async def copy_file(owner: ComfyUI, file: HostFile, target: Path) -> None:
    """Gets a file of another ComfyUI than the one that has to read it."""
    try:
        async with owner.open(place(file), {}) as answer:
            if answer.status != 200:
                raise Refused(NO_FILE)
            with target.open("wb") as copy:
                async for piece in answer.content.iter_chunked(1 << 20):
                    copy.write(piece)
    except ComfyUIGone as error:
        raise Refused(NO_FILE) from error


def place(file: HostFile) -> dict[str, str]:
    return {"filename": file.name, "subfolder": file.subfolder, "type": file.type}


NO_FILE = wrong_field("video_url", "There is no such file here.", "file_download_error")
