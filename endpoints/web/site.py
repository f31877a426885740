"""The page on which a person can try the endpoints, and their OpenAPI documents."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from ..protocol import openapi
from ..protocol.answers import ROOT
from ..protocol.failure import refuse
from ..protocol.schemas import ENDPOINTS
from ..protocol.settings import Settings
from .answers import address_of

FOLDER = Path(__file__).resolve().with_name("page")
FRESH = {"Cache-Control": "no-cache"}


class Site:
    """The handlers of the page and the documents, which need no key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("", to_page)
        router.add_get("/", page)
        router.add_get("/page/{name}", page_file)
        router.add_get("/openapi.json", self.all_documents)
        router.add_get("/openapi/{endpoint:.+}.json", self.one_document)

    async def all_documents(self, request: web.Request) -> web.Response:
        address = address_of(request, self.settings).base
        return web.json_response(openapi.document(ENDPOINTS.values(), address + ROOT))

    async def one_document(self, request: web.Request) -> web.Response:
        endpoint = ENDPOINTS.get(request.match_info["endpoint"])
        if endpoint is None:
            raise refuse(404, f"There is no such endpoint. Available: {', '.join(ENDPOINTS)}.")
        address = address_of(request, self.settings).base
        return web.json_response(openapi.document([endpoint], address + ROOT))


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(FOLDER / "index.html", headers=FRESH)


async def page_file(request: web.Request) -> web.StreamResponse:
    path = FOLDER / request.match_info["name"]
    if path.parent != FOLDER or not path.is_file():
        raise refuse(404, "There is no such file.")
    return web.FileResponse(path, headers=FRESH)


async def to_page(request: web.Request) -> web.Response:
    raise web.HTTPFound(f"{ROOT}/")
