"""Turns a stored request into what a ComfyUI needs to run it: its video is fetched, its prompt filled in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .comfyui import ComfyUI, ComfyUIGone, Prompt, PromptRefused
from .failure import VIDEO_AWAY, Failure, Refused, refuse, wrong_field
from .filling import Filled, fill
from .jobs import Job, Jobs
from .progress import Log
from .requests import ENDPOINTS, InvalidRequest, validate
from .settings import Settings
from .store import keep_trying
from .uploads import Uploads
from .videos import HostFile, VideoError, fetch, host_file, own_path

RESULT = re.compile(r"/fal/files/([0-9a-f-]{36})/[^/?]+")
NO_FILE = wrong_field("video_url", "There is no such file here.", "file_download_error")


@dataclass(frozen=True)
class LocalVideo:
    """A file of ours, deleted with the request if it was fetched for it."""

    path: Path
    is_fetched: bool


@dataclass(frozen=True)
class HostVideo:
    """A file that a ComfyUI has: one that the host's /view shows, or the result of an earlier request."""

    owner: ComfyUI
    file: HostFile


@dataclass(frozen=True)
class Prepared:
    """A request that is ready for its turn. folder: for files on their way from one ComfyUI to another."""

    request_id: str
    filled: Filled
    video: LocalVideo | HostVideo | None
    folder: Path

    async def upload_to(self, comfyui: ComfyUI) -> None:
        """Copies the video, if there is one, to the ComfyUI, and names it in the prompt. Errors: Refused, ComfyUIGone."""
        if self.video is None:
            return
        try:
            name = await self._upload(self.video, comfyui)
        except PromptRefused as error:
            raise refuse(500, str(error), "runner_server_error") from error
        except ComfyUIGone:
            raise
        except OSError as error:
            raise cant_store(error) from error
        self.filled.set_video(name)

    async def _upload(self, video: LocalVideo | HostVideo, comfyui: ComfyUI) -> str:
        if isinstance(video, LocalVideo):
            return await comfyui.upload_input(video.path, self.request_id)
        if video.owner is comfyui:
            if await comfyui.describe(place(video.file)) is None:
                raise Refused(NO_FILE)
            return video.file.annotated
        copy = self.folder / f"{self.request_id}{Path(video.file.name).suffix}"
        try:
            await copy_file(video, copy)
            return await comfyui.upload_input(copy, self.request_id)
        finally:
            copy.unlink(missing_ok=True)

    async def discard_from(self, comfyui: ComfyUI) -> None:
        """Removes that copy."""
        try:
            await comfyui.discard_input(self.request_id)
        except (ComfyUIGone, PromptRefused):
            pass  # the video is in its temp folder, which it empties when it starts

    def discard(self) -> None:
        """Deletes what was fetched."""
        if isinstance(self.video, LocalVideo) and self.video.is_fetched:
            self.video.path.unlink(missing_ok=True)


class Preparation:
    """Prepares requests with these workflows.

    comfyuis: by URL, those whose results may be an input; host is the one that this runs in. folder: for fetched files.
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

    def takes_video(self, job: Job) -> bool:
        return job.endpoint in ENDPOINTS and ENDPOINTS[job.endpoint].takes_video

    async def prepare(self, job: Job, log: Log) -> Prepared:
        """Fetches the video and fills in the prompt. Errors: Refused."""
        request = await keep_trying(lambda: self.jobs.request(job.id))
        url = request.pop("video_url", None)
        filled = self._fill(job, request, log)
        try:
            video = await self._find(job, url, log) if self.takes_video(job) else None
        except VideoError as error:
            raise Refused(Failure(422, error.detail)) from error
        except OSError as error:
            raise cant_store(error) from error
        return Prepared(job.id, filled, video, self.folder)

    async def fill(self, job: Job, log: Log) -> Prepared:
        """The same without the video, for a prompt that a ComfyUI already has. Errors: Refused."""
        request = await keep_trying(lambda: self.jobs.request(job.id))
        return Prepared(job.id, self._fill(job, request, log), None, self.folder)

    def _fill(self, job: Job, request: dict[str, Any], log: Log) -> Filled:
        endpoint = ENDPOINTS[job.endpoint]
        try:
            # Without the URL, which may be a large data URI: the file is set later.
            model = validate(endpoint, request | {"video_url": ""})
        except InvalidRequest as error:  # accepted by another version of this pack
            raise Refused(Failure(422, error.detail)) from error
        filled = fill(endpoint, self.workflows[job.endpoint], model, self.settings)
        filled.name_output(job.id)
        for note in filled.notes:
            log.say(note)
        return filled

    async def _find(self, job: Job, url: str, log: Log) -> LocalVideo | HostVideo:
        is_data = url[:5].lower() == "data:"  # which may be too large to be parsed as a URL
        path = None if is_data else own_path(url, (job.address, self.host.url))
        if path and (video := await self._own_file(url, path, job)):
            return video
        if path and (uploaded := self.uploads.find(path)):
            return LocalVideo(uploaded, is_fetched=False)
        log.say("Fetching the video")
        self.folder.mkdir(parents=True, exist_ok=True)
        return LocalVideo(await fetch(url, self.folder, self.settings), is_fetched=True)

    async def _own_file(self, url: str, path: str, job: Job) -> HostVideo | None:
        found = RESULT.match(path)
        earlier = await keep_trying(lambda: self.jobs.get(found[1])) if found else None
        if earlier and earlier.result and earlier.result["worker"] in self.comfyuis:
            result = earlier.result
            file = HostFile(result["filename"], result["subfolder"], result["type"])
            return HostVideo(self.comfyuis[result["worker"]], file)
        shown = host_file(url, (job.address, self.host.url)) if job.has_view else None
        return HostVideo(self.host, shown) if shown else None

    def remove_leftovers(self) -> None:
        """Deletes what an earlier process fetched."""
        for entry in self.folder.glob("*"):
            with suppress(OSError):
                entry.unlink()


async def copy_file(video: HostVideo, target: Path) -> None:
    """Downloads a file of another ComfyUI than the one that will read it. Errors: Refused; OSError of the target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        async with video.owner.open(place(video.file), {}) as answer:
            if answer.status != 200:
                raise Refused(VIDEO_AWAY if answer.status >= 500 else NO_FILE)
            with target.open("wb") as copy:
                async for piece in answer.content.iter_chunked(1 << 20):
                    await asyncio.to_thread(copy.write, piece)
    except ComfyUIGone as error:
        raise Refused(VIDEO_AWAY) from error


def place(file: HostFile) -> dict[str, str]:
    return {"filename": file.name, "subfolder": file.subfolder, "type": file.type}


def cant_store(error: OSError) -> Refused:
    return refuse(500, f"The video can't be stored: {error.strerror}.", "internal_error")
