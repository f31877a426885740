"""Files over HTTP: results, passed through from the ComfyUI that has them, and uploads of the JavaScript client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from aiohttp import web

from ..comfyui.client import ComfyUIGone
from ..protocol.answers import Video
from ..protocol.failure import Refused, refuse, wrong_field
from ..protocol.settings import Settings
from ..requests.lanes import Lanes
from .access import check_key
from .answers import address_of
from .bodies import decode, pieces, read_body
from .incoming import is_uuid

PASSED_ON = (
    *("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "Content-Disposition"),
    *("ETag", "Last-Modified"),
)
LIFECYCLE = ("X-Fal-Object-Lifecycle", "X-Fal-Object-Lifecycle-Preference")  # the clients' names, by version
MOST_DESCRIPTION = 1 << 20  # bytes of the JSON that announces a file, or lists its parts
Value = TypeVar("Value")
# A browser must never show an uploaded file as a page of this address, whatever it contains.
UNSHOWN = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}


class Files:
    """The handlers for files. No key is needed: the addresses of results and uploads can't be guessed."""

    def __init__(self, settings: Settings, lanes: Lanes) -> None:
        self.settings, self.lanes, self.jobs = settings, lanes, lanes.queue.jobs
        self.uploads, self.results = lanes.queue.preparation.uploads, lanes.queue.preparation.results

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/files/{id}/{name}", self.result)
        for kind in ("initiate", "initiate-multipart"):
            router.add_post(f"/storage/upload/{kind}{{slash:/?}}", self.initiate_upload)
        router.add_put("/storage/files/{token}/{name}", self.put_upload)
        router.add_get("/storage/files/{token}/{name}", self.get_upload)
        router.add_put(r"/storage/files/{token}/{name}/{part:[0-9]{1,5}}", self.put_part)
        router.add_post("/storage/files/{token}/{name}/complete", self.complete_upload)

    async def result(self, request: web.Request) -> web.StreamResponse:
        """A result that lies here, or passed through from the ComfyUI that has it."""
        request_id = request.match_info["id"]
        job = await self.jobs.get(request_id) if is_uuid(request_id) else None
        if job is None or job.result is None or job.result["filename"] != request.match_info["name"]:
            raise refuse(404, "There is no such file.")
        if not job.result["worker"]:
            return await self._kept(request_id, job.result)
        comfyui = self.lanes.named(job.result["worker"])
        if comfyui is None:
            raise refuse(404, "The ComfyUI that has this file is no longer in the settings.")
        response = web.StreamResponse()
        asked = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        try:
            async with comfyui.open(job.result, asked, request.method) as source:
                if source.status == 404:
                    raise refuse(404, "The file was deleted.")
                response.set_status(source.status)
                kept = {name: source.headers[name] for name in PASSED_ON if name in source.headers}
                response.headers.update(kept)
                await response.prepare(request)
                async for piece in source.content.iter_chunked(1 << 18):
                    await response.write(piece)
        except ComfyUIGone as error:
            if response.prepared:  # cut the connection, so that the file is seen to be incomplete
                raise ConnectionResetError(str(error)) from error
            gone = "The ComfyUI that has this file does not answer."
            raise refuse(502, gone, "runner_connection_error") from error
        await response.write_eof()
        return response

    async def _kept(self, request_id: str, video: Video) -> web.StreamResponse:
        path = self.results.path(request_id, video["filename"])
        if not await asyncio.to_thread(path.is_file):
            raise refuse(404, "The file was deleted.")
        headers = {"Content-Type": video["content_type"], "X-Content-Type-Options": "nosniff"}
        return web.FileResponse(path, headers=headers)

    async def initiate_upload(self, request: web.Request) -> web.Response:
        """Answers with the address for a new file, whether it then comes whole or in parts."""
        check_key(request, self.settings)
        name = await read_field(request, "file_name", str)
        with storing():
            path = await asyncio.to_thread(self.uploads.new, name, read_lifetime(request))
        url = address_of(request, self.settings).base + path
        return web.json_response({"upload_url": url, "file_url": url})

    async def put_upload(self, request: web.Request) -> web.Response:
        with storing():
            await self.uploads.write(request.path, pieces(request))
        return web.json_response({})

    async def put_part(self, request: web.Request) -> web.Response:
        number = int(request.match_info["part"])
        with storing():
            await self.uploads.write(request.path.rpartition("/")[0], pieces(request), number)
        etag = f"part-{number}"
        return web.json_response({"partNumber": number, "etag": etag}, headers={"ETag": f'"{etag}"'})

    async def complete_upload(self, request: web.Request) -> web.Response:
        parts = await read_field(request, "parts", list)
        try:
            numbers = sorted(int(part["partNumber"]) for part in parts)
        except (LookupError, TypeError, ValueError, OverflowError):
            raise Refused(wrong_field("parts", "Each part needs its partNumber", "value_error")) from None
        with storing():
            await self.uploads.join(request.path.rpartition("/")[0], numbers)
        return web.json_response({})

    async def get_upload(self, request: web.Request) -> web.StreamResponse:
        path = await asyncio.to_thread(self.uploads.find, request.path)
        if path is None:
            raise refuse(404, "There is no such file.")
        return web.FileResponse(path, headers=UNSHOWN)


async def read_field(request: web.Request, name: str, kind: type[Value]) -> Value:
    """A field of a body that holds no more than a description of a file. Errors: Refused with 413 or 422."""
    body = decode(await read_body(request, MOST_DESCRIPTION))
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind):
        raise Refused(wrong_field(name, "Field required", "missing"))
    return value


def read_lifetime(request: web.Request) -> float | None:
    """Seconds after which the client wants its file to expire. Errors: Refused with 400."""
    given = next((request.headers[name] for name in LIFECYCLE if name in request.headers), "{}")
    try:
        wanted = decode(given).get("expiration_duration_seconds")
        seconds = None if wanted is None else float(wanted)
    except (Refused, ValueError, TypeError, AttributeError, OverflowError):
        seconds = -1.0
    if seconds is not None and not seconds > 0:
        message = f"{LIFECYCLE[0]} must be JSON with expiration_duration_seconds above 0."
        raise refuse(400, message, "bad_request")
    return seconds


@contextmanager
def storing() -> Iterator[None]:
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        raise refuse(507, f"The file can't be stored: {error.strerror}.", "internal_error") from error
