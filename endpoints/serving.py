"""The endpoints as an application: its parts, and what runs for as long as its server."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator

from aiohttp import web

from .addresses import check_aiohttp
from .answers import ROOT
from .comfyui import ComfyUI
from .expiry import expire
from .filling import load_workflows
from .jobs import Jobs
from .preparing import Preparation
from .queue import Queue
from .routes import Routes
from .settings import Settings
from .uploads import Uploads
from .webhooks import Webhooks


def add_endpoints(app: web.Application, settings: Settings, host: ComfyUI) -> None:
    """Adds /fal to the application of a ComfyUI's own server. Errors: ValueError when a setting or a workflow is wrong."""
    check_aiohttp()
    workflows = load_workflows(settings)
    data = settings.database.with_name(f"{settings.database.stem}-files")
    keep = settings.keep_hours * 3600
    comfyuis = [host if url.rstrip("/") == host.url else ComfyUI(url) for url in settings.comfyui] or [host]
    jobs = Jobs(settings.database)
    uploads = Uploads(data / "uploads", settings.max_upload_mb << 20, keep)
    by_url = {comfyui.url: comfyui for comfyui in (host, *comfyuis)}
    preparation = Preparation(settings, workflows, host, by_url, jobs, uploads, data / "incoming")
    queue = Queue(jobs, comfyuis, preparation, settings.max_queued, settings.silence_seconds)
    routes = Routes(settings, queue, jobs, uploads, view_base=host.url)
    webhooks = Webhooks(settings, jobs, host.url)

    async def running(_: web.Application) -> AsyncIterator[None]:
        if host not in comfyuis:
            host.start()
        queue.start()
        queue.spawn(webhooks.run(queue.ready))
        queue.spawn(expire(jobs, keep, queue.ready))
        runner = await listen(Routes(settings, queue, jobs, uploads, view_base=None))
        yield
        await runner.cleanup()
        await queue.close()
        if host not in comfyuis:
            await host.close()

    endpoints = routes.app()
    endpoints.cleanup_ctx.append(running)
    app.add_subapp(ROOT, endpoints)
    logging.info("Fast AnimateDiff: the endpoints are on, at %s/ of this server", ROOT)


async def listen(routes: Routes) -> web.AppRunner:
    """A server on a port of its own, if the settings name one: the host's refuses pages of other origins. A failure is
    only logged, because the host works without that port."""
    context, settings = None, routes.settings
    app = web.Application()
    app.add_subapp(ROOT, routes.app())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if settings.listen is None:
        return runner
    try:
        if settings.tls_certfile:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            # With an empty password an encrypted key is an error; with none, OpenSSL asks on the terminal.
            context.load_cert_chain(settings.tls_certfile, settings.tls_keyfile, password="")
        address, _, port = settings.listen.rpartition(":")
        await web.TCPSite(runner, address.strip("[]"), int(port), ssl_context=context).start()
        logging.info("Fast AnimateDiff: the endpoints also listen on %s", settings.listen)
    except (OSError, OverflowError, ValueError) as error:  # a port above 65535, an invalid name
        logging.error("Fast AnimateDiff: the endpoints can't listen on %s: %s", settings.listen, error)
    return runner
