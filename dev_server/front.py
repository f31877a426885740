"""Serves the endpoints in a process of their own, in front of ComfyUIs that run elsewhere, until Ctrl-C:
`python3 dev.py serve --workers URL[,URL] [--port PORT] [--folder FOLDER]`.

The folder holds the settings (fast-animatediff-endpoints.toml), the requests and the results.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from aiohttp import web

from ..endpoints.serving import front
from ..endpoints.settings import load
from .host import base_folder

PORT = 8189  # beside a ComfyUI's usual one


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "dev.py serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", required=True, help="addresses of ComfyUIs, separated by commas")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    parser.add_argument("--folder", type=Path, default=base_folder().with_name("front"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        app = front(load(options.folder.resolve(), os.environ), options.workers.split(","))
        print(f"In a browser: http://127.0.0.1:{options.port}/fal/   Files: {options.folder}", flush=True)
        web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
