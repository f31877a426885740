"""The endpoints as an application: mounted in a ComfyUI's own server, or a front of its own with ComfyUIs behind it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from functools import partial

from aiohttp import web

from .comfyui.client import ComfyUI
from .comfyui.filling import load_workflows
from .inputs.addresses import Names, check_aiohttp
from .inputs.uploads import Uploads
from .protocol.answers import ROOT
from .protocol.settings import Settings
from .requests.expiry import expire
from .requests.jobs import Jobs
from .requests.lanes import Lanes
from .requests.preparing import Preparation
from .requests.queue import Queue
from .requests.results import Results
from .requests.signing import Signer
from .requests.webhooks import Webhooks
from .web.routes import Routes

# What a process that embeds the endpoints may use, in the event loop of their application.
LANES, QUEUE = web.AppKey("lanes", Lanes), web.AppKey("queue", Queue)
RESULTS, UPLOADS = web.AppKey("results", Results), web.AppKey("uploads", Uploads)


def front(settings: Settings, workers: Iterable[str] = ()) -> web.Application:
    """The endpoints outside of any ComfyUI. workers: addresses of ComfyUIs, beside those in the settings; more come and
    go through `app[LANES]`. Errors: ValueError when a setting or a workflow is wrong."""
    app = web.Application()
    add_endpoints(app, settings, None, workers)
    return app


def add_endpoints(
    app: web.Application, settings: Settings, host: ComfyUI | None, workers: Iterable[str] = ()
) -> None:
    """Adds /fal to an application. host: the ComfyUI whose server that is; it works if no others are named.

    Errors: ValueError when a setting or a workflow is wrong.
    """
    check_aiohttp()
    workflows = load_workflows(settings)
    data = settings.database.with_name(f"{settings.database.stem}-files")
    keep = settings.keep_hours * 3600
    jobs, results = Jobs(settings.database), Results(data / "results", host)
    uploads = Uploads(data / "uploads", settings.max_upload_mb << 20, keep)
    connect = partial(ComfyUI, answer_seconds=settings.answer_seconds)
    names = Names()
    preparation = Preparation(
        settings, workflows, jobs, uploads, results, names, lambda url: lanes.named(url), data / "incoming"
    )
    queue = Queue(jobs, preparation, settings.max_queued)
    lanes = Lanes(queue, settings.silence_seconds, host, connect)
    signer = Signer(data / "webhook-key")
    webhooks = Webhooks(settings, jobs, signer, names)
    for address in [*settings.comfyui, *workers] or ([host.url] if host else []):
        lanes.add(address)

    async def running(_: web.Application) -> AsyncIterator[None]:
        queue.spawn(lanes.run())
        queue.spawn(webhooks.run(queue.ready))
        queue.spawn(expire(jobs, results, keep, queue.ready))
        runner = await listen(settings, lanes, signer)
        yield
        await runner.cleanup()
        await lanes.close()
        await names.close()
        await jobs.close()

    async def closing(_: web.Application) -> None:
        queue.is_closing = True

    endpoints = Routes(settings, lanes, signer, has_view=host is not None).app()
    endpoints.on_shutdown.append(closing)
    endpoints.cleanup_ctx.append(running)
    app[LANES], app[QUEUE], app[RESULTS], app[UPLOADS] = lanes, queue, results, uploads
    app.add_subapp(ROOT, endpoints)
    logging.info("Fast AnimateDiff: the endpoints are on, at %s/ of this server", ROOT)


async def listen(settings: Settings, lanes: Lanes, signer: Signer) -> web.AppRunner:
    """A server on a port of its own, if the settings name one: the host's refuses pages of other origins. A failure is
    only logged, because the host works without that port."""
    app, context = web.Application(), None
    app.add_subapp(ROOT, Routes(settings, lanes, signer, has_view=False).app())
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
