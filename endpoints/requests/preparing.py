"""Turns a stored request into what a ComfyUI needs to run it: its video is fetched, its prompt filled in."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aiohttp.abc import AbstractResolver

from ..comfyui.client import ComfyUI, ComfyUIGone, NoSpace, Prompt, PromptRefused, lent_name
from ..comfyui.filling import Filled, fill
from ..inputs.files import new_file
from ..inputs.uploads import Uploads
from ..inputs.videos import HostFile, fetch, host_file, own_path
from ..protocol.answers import ROOT, Log
from ..protocol.failure import VIDEO_AWAY, Refused, refuse, wrong_field
from ..protocol.schemas import ENDPOINTS, validate
from ..protocol.settings import Settings
from ..protocol.spelling import parsed
from .jobs import Job, Jobs
from .results import Results
from .store import keep_trying

FULL_SECONDS = 5.0  # between attempts to store a video on a full disk
# Of a result or an upload, at whatever name or port of ours: nobody else has such an id.
OURS = re.compile(r"/fal/(?:storage/)?files/(?P<id>[0-9a-f-]{32,36})/[^/]+")
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

    filled: Filled
    video: LocalVideo | HostVideo | None
    folder: Path

    def lent_to(self, comfyui: ComfyUI, prompt_id: str) -> str | None:
        """The name that the video will have on the ComfyUI; None if there is none, or the ComfyUI has it."""
        if self.video is None or (isinstance(self.video, HostVideo) and self.video.owner is comfyui):
            return None
        path = self.video.path if isinstance(self.video, LocalVideo) else Path(self.video.file.filename)
        return lent_name(prompt_id, path)  # messages of nodes repeat the file's name

    async def bring_to(self, comfyui: ComfyUI, lent: str | None) -> None:
        """Copies the video to the ComfyUI where it has to be, and names it in the prompt. Errors: Refused, ComfyUIGone,
        NoSpace."""
        if self.video is None:
            return
        try:
            name = await self._bring(self.video, comfyui, lent)
        except (ComfyUIGone, NoSpace):
            raise
        except PromptRefused as error:
            raise refuse(500, str(error), "runner_server_error") from error
        except OSError as error:
            raise cant_store(error) from error
        self.filled.set_video(name)

    async def _bring(self, video: LocalVideo | HostVideo, comfyui: ComfyUI, lent: str | None) -> str:
        if isinstance(video, LocalVideo):
            return await comfyui.lend(video.path, lent or "")
        if lent is None:
            if await comfyui.describe(video.file._asdict()) is None:
                raise Refused(NO_FILE)
            return video.file.annotated
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        async with new_file(self.folder) as copy:
            await copy_file(video, copy)
            return await comfyui.lend(Path(copy.name), lent)

    async def discard(self) -> None:
        """Deletes what was fetched."""
        if isinstance(self.video, LocalVideo) and self.video.is_fetched:
            await asyncio.to_thread(self.video.path.unlink, missing_ok=True)


@dataclass(frozen=True)
class Preparation:
    """Prepares requests with these workflows.

    results: earlier ones that lie here. names: looks hosts up. named: finds the ComfyUI at a URL. folder: for fetched files.
    """

    settings: Settings
    workflows: Mapping[str, Prompt]
    jobs: Jobs
    uploads: Uploads
    results: Results
    names: AbstractResolver
    named: Callable[[str], ComfyUI | None]
    folder: Path

    async def prepare(self, job: Job, log: Log) -> Prepared:
        """Fetches the video and fills in the prompt. Errors: Refused."""
        request = await keep_trying(lambda: self.jobs.request(job.id))
        url = request.pop("video_url", None)
        filled = self._fill(job, request)
        for note in filled.notes:
            log.say(note)
        try:
            video = await self._find(job, url, log) if job.takes_video else None
        except OSError as error:
            raise cant_store(error) from error
        return Prepared(filled, video, self.folder)

    async def fill(self, job: Job) -> Filled:
        """The prompt of the last attempt, which a ComfyUI may have. Errors: Refused."""
        filled = self._fill(job, await keep_trying(lambda: self.jobs.request(job.id)))
        filled.name_output(job.output)
        return filled

    def _fill(self, job: Job, request: dict[str, Any]) -> Filled:
        endpoint = ENDPOINTS[job.endpoint]
        # Without the URL, which may be a large data URI: the file is set later.
        model = validate(endpoint, request | {"video_url": ""})
        return fill(endpoint, self.workflows[job.endpoint], model, self.settings)

    async def _find(self, job: Job, url: str, log: Log) -> LocalVideo | HostVideo:
        is_data = url[:5].lower() == "data:"  # which may be too large to be parsed as a URL
        if not is_data and (video := await self._own(job, url)):
            return video
        log.say("Fetching the video")
        while True:
            try:
                await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
                fetched = await fetch(url, self.folder, self.settings, self.names)
                return LocalVideo(fetched, is_fetched=True)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                logging.warning("Fast AnimateDiff endpoints: no space for a video yet: %s", error.strerror)
                await asyncio.sleep(FULL_SECONDS)

    async def _own(self, job: Job, url: str) -> LocalVideo | HostVideo | None:
        """The video at an address of ours; None elsewhere. Errors: Refused where there is no such file of ours."""
        link = parsed(url)
        if ours := link and OURS.search(link.raw_path):
            if video := await self._result(ours["id"]):
                return video
            if uploaded := await asyncio.to_thread(self.uploads.find, ours[0]):
                return LocalVideo(uploaded, is_fetched=False)
        host = self.results.host
        addresses = (job.address, host.url) if host else (job.address,)
        if host and job.has_view and (shown := host_file(url, addresses)):
            return HostVideo(host, shown)
        if (own_path(url, addresses) or "").startswith(f"{ROOT}/"):
            raise Refused(NO_FILE)
        return None

    async def _result(self, request_id: str) -> LocalVideo | HostVideo | None:
        """The video that an earlier request made."""
        earlier = await keep_trying(lambda: self.jobs.get(request_id))
        if earlier is None or earlier.result is None:
            return None
        file = earlier.result
        if not file["worker"]:
            path = self.results.path(request_id, file["filename"])
            return LocalVideo(path, is_fetched=False) if await asyncio.to_thread(path.is_file) else None
        owner = self.named(file["worker"])
        shown = HostFile(file["filename"], file["subfolder"], file["type"])
        return HostVideo(owner, shown) if owner else None

    def remove_leftovers(self) -> None:
        """Deletes what an earlier process fetched."""
        for entry in self.folder.glob("*"):
            with suppress(OSError):
                entry.unlink()


async def copy_file(video: HostVideo, copy: IO[bytes]) -> None:
    """Downloads a file of another ComfyUI than the one that will read it. Errors: Refused; OSError of the copy."""
    try:
        async with video.owner.open(video.file._asdict(), {}) as answer:
            if answer.status != 200:
                raise Refused(VIDEO_AWAY if answer.status >= 500 else NO_FILE)
            async for piece in answer.content.iter_chunked(1 << 20):
                await asyncio.to_thread(copy.write, piece)
            await asyncio.to_thread(copy.flush)
    except ComfyUIGone as error:
        raise Refused(VIDEO_AWAY) from error


def cant_store(error: OSError) -> Refused:
    return refuse(500, f"The video can't be stored: {error.strerror}.", "internal_error")
