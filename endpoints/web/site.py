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


def add_site(router: web.UrlDispatcher, settings: Settings) -> None:
    """Handlers of the page and the documents, which need no key."""

    async def document(request: web.Request) -> web.Response:
        name = request.match_info.get("endpoint")
        if name is not None and name not in ENDPOINTS:
            raise refuse(404, f"There is no such endpoint. Available: {', '.join(ENDPOINTS)}.")
        described = ENDPOINTS.values() if name is None else [ENDPOINTS[name]]
        return web.json_response(openapi.document(described, address_of(request, settings).base + ROOT))

    router.add_get("", to_page)
    router.add_get("/", page)
    router.add_get("/page/{name}", page_file)
    router.add_get("/openapi.json", document)
    router.add_get("/openapi/{endpoint:.+}.json", document)


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(FOLDER / "index.html", headers=FRESH)


async def page_file(request: web.Request) -> web.StreamResponse:
    path = FOLDER / request.match_info["name"]
    if path not in FOLDER.iterdir():
        raise refuse(404, "There is no such file.")
    return web.FileResponse(path, headers=FRESH)


async def to_page(request: web.Request) -> web.Response:
    raise web.HTTPFound(f"{ROOT[1:]}/")  # relative: a proxy may have us below a path
