"""Files over HTTP: results, passed through from the ComfyUI that has them, and uploads of the JavaScript client."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .access import check_key
from .answers import Address
from .comfyui import ComfyUIGone
from .failure import Failure, Refused, refuse, wrong_field
from .incoming import is_uuid, pieces, read_body
from .jobs import Jobs
from .queue import Queue
from .requests import InvalidRequest, decode
from .settings import Settings
from .uploads import Uploads

PASSED_ON = ("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "Content-Disposition")
# A browser must never show an uploaded file as a page of this address, whatever it contains.
UNSHOWN = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}


class Files:
    """The handlers for files. No key is needed: the addresses of results and uploads can't be guessed."""

    def __init__(self, settings: Settings, queue: Queue, jobs: Jobs, uploads: Uploads) -> None:
        self.settings, self.queue, self.jobs, self.uploads = settings, queue, jobs, uploads

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/files/{id}/{name}", self.result)
        router.add_post("/storage/upload/initiate", self.initiate_upload)
        router.add_put("/storage/files/{token}/{name}", self.put_upload)
        router.add_get("/storage/files/{token}/{name}", self.get_upload)

    async def result(self, request: web.Request) -> web.StreamResponse:
        """Passes a result through from the ComfyUI that has it."""
        request_id = request.match_info["id"]
        job = await self.jobs.get(request_id) if is_uuid(request_id) else None
        if job is None or job.result is None or job.result["filename"] != request.match_info["name"]:
            raise refuse(404, "There is no such file.")
        comfyui = self.queue.named(job.result["worker"])
        if comfyui is None:
            raise refuse(404, "The ComfyUI that has this file is no longer in the settings.")
        response = web.StreamResponse()
        asked = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        try:
            async with comfyui.open(job.result, asked, request.method) as source:
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

    async def initiate_upload(self, request: web.Request) -> web.Response:
        check_key(request, self.settings)
        try:
            asked = decode(await read_body(request, 1 << 16))
        except InvalidRequest as error:
            raise Refused(Failure(422, error.detail)) from error
        name = asked.get("file_name") if isinstance(asked, dict) else None
        if not isinstance(name, str):
            raise Refused(wrong_field("file_name", "Field required", "missing"))
        try:
            path = await asyncio.to_thread(self.uploads.new, name)
        except OSError as error:
            raise cant_store(error) from error
        url = Address.of(request, self.settings).base + path
        return web.json_response({"upload_url": url, "file_url": url})

    async def put_upload(self, request: web.Request) -> web.Response:
        try:
            await self.uploads.write(request.path, pieces(request))
        except ConnectionError:
            raise
        except OSError as error:
            raise cant_store(error) from error
        return web.json_response({})

    async def get_upload(self, request: web.Request) -> web.StreamResponse:
        path = self.uploads.find(request.path)
        if path is None:
            raise refuse(404, "There is no such file.")
        return web.FileResponse(path, headers=UNSHOWN)


def cant_store(error: OSError) -> Refused:
    return refuse(507, f"The file can't be stored: {error.strerror}.", "internal_error")
