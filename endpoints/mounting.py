"""Puts the endpoints on the host's server when the owner has switched them on."""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

import folder_paths
from comfy.cli_args import args

from .addresses import check_aiohttp
from .answers import ROOT
from .comfyui import ComfyUI
from .filling import load_workflows
from .jobs import Jobs
from .preparing import Preparation
from .queue import Queue
from .routes import Routes
from .settings import Settings, load
from .uploads import Uploads
from .webhooks import Webhooks


def mount(app: web.Application) -> None:
    """Adds /fal to the host's application, if the settings say so. What is wrong with them is said in the log only:
    the nodes of this pack are of use without endpoints."""
    user_folder = Path(folder_paths.get_user_directory())
    try:
        settings = load(user_folder, os.environ)
        if not settings.enabled:
            return
        add_endpoints(app, settings)
    except (ValueError, OSError) as error:
        logging.error("Fast AnimateDiff: the endpoints stay off: %s", error)


def add_endpoints(app: web.Application, settings: Settings) -> None:
    """Errors: ValueError when a setting or a workflow does not fit."""
    check_aiohttp()
    workflows = load_workflows(settings)
    data = settings.database.with_name(f"{settings.database.stem}-files")
    keep = settings.keep_hours * 3600
    host = this_host()
    comfyuis = [host if url.rstrip("/") == host.url else ComfyUI(url) for url in settings.comfyui] or [host]
    jobs = Jobs(settings.database)
    uploads = Uploads(data / "uploads", settings.max_upload_mb << 20, keep)
    by_url = {comfyui.url: comfyui for comfyui in (host, *comfyuis)}
    preparation = Preparation(settings, workflows, host, by_url, jobs, uploads, data / "incoming")
    queue = Queue(jobs, comfyuis, preparation, settings.max_queued, keep)
    routes = Routes(settings, queue, jobs, uploads, view_base=host.url)
    webhooks = Webhooks(settings, jobs, host.url)

    async def running(_: web.Application) -> AsyncIterator[None]:
        if host not in comfyuis:
            host.start()
        queue.start()
        queue.spawn(webhooks.run(queue.ready))
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
    """A port of the endpoints' own, if the settings name one: the host's server answers no page of another origin, nor
    its preflights. What prevents it is said in the log only: the host is of use without that port."""
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
            # An encrypted key is an error: without a password to try, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(settings.tls_certfile, settings.tls_keyfile, password="")
        address, _, port = settings.listen.rpartition(":")
        await web.TCPSite(runner, address.strip("[]"), int(port), ssl_context=context).start()
        logging.info("Fast AnimateDiff: the endpoints listen on %s, too", settings.listen)
    except (OSError, OverflowError, ValueError) as error:  # a port above 65535, a name that is none
        logging.error("Fast AnimateDiff: the endpoints can't listen on %s: %s", settings.listen, error)
    return runner


def this_host() -> ComfyUI:
    """The ComfyUI that this runs in, as its own client."""
    listened = [address.strip() for address in args.listen.split(",")]
    if {"0.0.0.0", "127.0.0.1", ""} & set(listened):
        name = "127.0.0.1"
    else:
        name = "::1" if "::" in listened else listened[0]
    name = f"[{name}]" if ":" in name else name
    if not (args.tls_keyfile and args.tls_certfile):
        return ComfyUI(f"http://{name}:{args.port}")
    return ComfyUI(f"https://{name}:{args.port}", ssl=fingerprint(Path(args.tls_certfile)))


def fingerprint(certificate: Path) -> aiohttp.Fingerprint:
    """Of the first certificate in a PEM file: it is known which one has to come, whatever name it is for."""
    text = certificate.read_text(encoding="ascii", errors="ignore")
    first, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    return aiohttp.Fingerprint(hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[first:end])).digest())
