"""Loads a custom node with the host's own loader, as its main.py does, and writes down what that did.

Run as `python load_pack.py HOST PACK REPORT.json`, a program of its own, so that nothing is imported yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import logging
import sys
import time
from pathlib import Path


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}")


async def load(host: str, pack: str) -> dict:
    sys.argv = ["main.py", "--cpu"]
    sys.path[0] = host
    import comfy.options

    comfy.options.enable_args_parsing()
    import nodes

    start = time.process_time()  # of this process alone: the machine may be busy
    await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
    host_seconds = time.process_time() - start
    known, path, records, printed = set(nodes.NODE_CLASS_MAPPINGS), list(sys.path), Records(), io.StringIO()
    logging.getLogger().addHandler(records)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        start = time.process_time()
        loaded = await nodes.load_custom_node(pack)
        seconds = time.process_time() - start
    return {
        "loaded": loaded,
        "of_host": seconds / host_seconds,
        "printed": printed.getvalue(),
        "log": records.lines,
        "nodes": sorted(set(nodes.NODE_CLASS_MAPPINGS) - known),
        "host_nodes": Path(sys.modules["nodes"].__file__).parent.samefile(host),
        "path_unchanged": sys.path == path,
        "modules": sorted(sys.modules),
    }


if __name__ == "__main__":
    host, pack, report = sys.argv[1:]
    Path(report).write_text(json.dumps(asyncio.run(load(host, pack))), encoding="utf-8")
    gc.freeze()  # or the end would look through all that was imported once more
