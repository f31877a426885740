"""Adds the endpoints to the host's server if the owner has switched them on; otherwise imports none of them."""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy.cli_args import args

from . import FILE_NAME, PREFIX

if TYPE_CHECKING:
    from aiohttp import Fingerprint, web

    from .comfyui.client import ComfyUI


def mount(app: web.Application) -> None:
    """Adds /fal to the host's application if the settings say so. A mistake in them is only logged, because the nodes of
    this pack work without endpoints."""
    user_folder = Path(folder_paths.get_user_directory())
    if not (user_folder / FILE_NAME).exists() and not any(name.startswith(PREFIX) for name in os.environ):
        return
    try:
        from .settings import load

        settings = load(user_folder, os.environ)
        if settings.enabled:
            from .serving import add_endpoints

            add_endpoints(app, settings, this_host())
    except (ImportError, ValueError, OSError) as error:
        logging.error("Fast AnimateDiff: the endpoints stay off: %s", error)


def this_host() -> ComfyUI:
    """A client for the ComfyUI that this runs in."""
    from .comfyui.client import ComfyUI

    listened = [address.strip() for address in args.listen.split(",")]
    if {"0.0.0.0", "127.0.0.1", ""} & set(listened):
        name = "127.0.0.1"
    else:
        name = "::1" if "::" in listened else listened[0]
    name = f"[{name}]" if ":" in name else name
    if not (args.tls_keyfile and args.tls_certfile):
        return ComfyUI(f"http://{name}:{args.port}", runs_prompts=has_prompt_worker)
    certificate = fingerprint(Path(args.tls_certfile))
    return ComfyUI(f"https://{name}:{args.port}", certificate, has_prompt_worker)


def has_prompt_worker() -> bool:
    """Whether the thread that runs prompts is alive; once it has died, the host (0.30) does not start another."""
    return any("prompt_worker" in thread.name for thread in threading.enumerate())


def fingerprint(certificate: Path) -> Fingerprint:
    """Of the first certificate in a PEM file: the only one to accept, whatever name it is for."""
    from aiohttp import Fingerprint

    text = certificate.read_text(encoding="ascii", errors="ignore")
    first, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    return Fingerprint(hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[first:end])).digest())
