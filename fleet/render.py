"""Rendering a list of requests, or a folder of videos, into a folder: what `dev.py render` does."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp
from aiohttp import web

from ..endpoints.comfyui.filling import load_workflows
from ..endpoints.protocol.settings import Settings
from ..endpoints.serving import LANES, RESULTS, UPLOADS, front
from ..endpoints.settings import load
from .arguments import render_arguments
from .digests import clip_digest, read_model_sizes
from .driver import Driver, Work, place, plan
from .ledger import Clip, Ledger, LedgerInUse
from .manifest import BadManifest, Item, check, folder_items, read_manifest
from .options import BadOption
from .progress import Display, Progress
from .sources import Source, open_source

REQUESTS = ".requests"  # the endpoints' own files, in the folder of the results
KEEP_HOURS = 24.0 * 365 * 10


def read_items(options: argparse.Namespace) -> list[Item]:
    """Errors: BadManifest, BadOption, OSError."""
    if options.attempts < 1:
        raise BadOption("--attempts has to be at least 1.")
    if sum(map(bool, (options.manifest, options.videos, options.one))) != 1:
        raise BadOption("Give a manifest, or --videos FOLDER, or --one FILE.")
    if options.one and options.out.is_dir():
        raise BadOption("--out has to be a file with --one.")
    if options.videos and options.out.exists() and options.out.samefile(options.videos):
        raise BadOption(
            "--out has to be another folder than --videos, for results are named as their videos."
        )
    if options.one:
        [item] = check([(1, options.one.read_bytes())])
        return [replace(item, name=options.out.stem)]
    if options.manifest:
        return read_manifest(options.manifest)
    if not options.endpoint or options.prompt is None:
        raise BadOption("--videos needs --endpoint and --prompt.")
    if not isinstance(options.input, dict):
        raise BadOption('--input has to be an object, such as {"strength": 0.5}.')
    return folder_items(options.videos, options.endpoint, {**options.input, "prompt": options.prompt})


async def render(
    options: argparse.Namespace, items: list[Item], folder: Path, display: Display
) -> list[Clip]:
    """What came of every item. Errors: BadOption, LedgerInUse, ValueError, OSError, aiohttp.ClientError."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = read_settings(options, folder)
    progress = Progress(len(items))
    with Ledger(folder) as ledger:
        source = open_source(
            options,
            settings,
            {item.endpoint for item in items},
            lambda: progress.left,
            lambda text: display.say(text, "note"),
        )
        async with source as workers:
            sizes = await read_model_sizes(workers.addresses[0])
            workflows = load_workflows(settings)
            digests = [
                await asyncio.to_thread(clip_digest, item, workflows[item.endpoint], settings, sizes)
                for item in items
            ]
            work, there = plan(items, digests, ledger.clips(), folder)
            progress.skipped = len(there)
            if work:
                there += await drive(options, settings, ledger, workers, work, progress, display)
            display.report(progress, there)
    return there


async def drive(
    options: argparse.Namespace,
    settings: Settings,
    ledger: Ledger,
    workers: Source,
    work: list[Work],
    progress: Progress,
    display: Display,
) -> list[Clip]:
    app = front(settings, workers.addresses)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()  # no port is opened
    try:
        if workers.ray:
            workers.ray.attach(app[LANES])
        driver = Driver(options.folder, ledger, app[LANES], workers.node_of, options.attempts, display)
        await driver.run(work, progress)
        for kept in (app[UPLOADS].folder, app[RESULTS].folder):  # by a driver that was killed
            await asyncio.to_thread(shutil.rmtree, kept, ignore_errors=True)
        return driver.ended
    finally:
        await runner.cleanup()


def read_settings(options: argparse.Namespace, folder: Path) -> Settings:
    """The owner's settings, as far as they concern what is made. Errors: ValueError."""
    settings = load((options.settings or folder).resolve(), os.environ)
    own = {"enabled": True, "comfyui": (), "listen": None, "tls_certfile": None, "tls_keyfile": None}
    (folder / REQUESTS).mkdir(exist_ok=True)
    database = folder / REQUESTS / "requests.sqlite3"
    return settings.model_copy(
        update={**own, "database": database, "keep_hours": KEEP_HOURS, "max_queued": 1_000_000}
    )


def main() -> int:
    options = render_arguments().parse_args()
    display = Display(options.json)
    # The endpoints say much that the display says better.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options.folder = options.out if not options.one else options.out.with_name(f".{options.out.name}.render")
    try:
        items = read_items(options)
        clips = asyncio.run(render(options, items, options.folder, display))
        if options.one:
            for clip in clips:
                if clip.file:
                    place(options.folder / clip.file, options.out)
            shutil.rmtree(options.folder)  # whoever asks again, after a failure, begins anew
        return 0 if all(clip.state == "done" for clip in clips) else 1
    except BadManifest as error:
        for line, why in error.problems:
            display.say(f"line {line}: {why}" if line else why, "problem", line=line, reason=why)
        count = len(error.problems)
        display.say(f"{count} problem{'s' * (count > 1)}; nothing was rendered.", "refused", problems=count)
    except LedgerInUse as error:
        display.say(f"{options.out}: {error}", "refused", reason=str(error))
    except (
        BadOption,
        ValueError,
        OSError,
        sqlite3.Error,
        aiohttp.ClientError,
        asyncio.TimeoutError,
    ) as error:
        reason = reason_of(error)
        display.say(f"Nothing was rendered: {reason}", "refused", reason=reason)
    except KeyboardInterrupt:
        display.say("Stopped. The same command goes on from here.", "stopped")
        return 130
    return 2


def reason_of(error: Exception) -> str:
    """Of an error of the system, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or "The ComfyUI does not answer."


if __name__ == "__main__":
    sys.exit(main())
