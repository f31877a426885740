"""The endpoints in a process of their own: `python front_process.py FOLDER PORT WORKER`.

FOLDER holds their settings, WORKER is the address of the ComfyUI that works for them if the settings name none. They end
with the process that started them, which holds the other end of standard input.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import threading
from pathlib import Path

from aiohttp import web

ENDPOINTS = Path(__file__).resolve().parents[2] / "endpoints"


def end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


def main(folder: Path, port: int, worker: str) -> None:
    spec = importlib.util.spec_from_file_location(
        "endpoints", ENDPOINTS / "__init__.py", submodule_search_locations=[str(ENDPOINTS)]
    )
    sys.modules["endpoints"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["endpoints"])
    from endpoints.serving import front
    from endpoints.settings import load

    settings = load(folder, {})
    web.run_app(
        front(settings, [] if settings.comfyui else [worker]),
        host="127.0.0.1",
        port=port,
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO)
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
