"""Serves ComfyUI's page with this pack and the tiny models until Ctrl-C: `python3 dev.py ui [--port PORT]`."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from .clip import SIZE
from .demo import TEXT_PROMPT
from .host import base_folder, host_folder
from .server import ComfyServer
from .set_up import CLIP_NAME, set_up

USUAL_PORT = 8188


def usual_port_if_free() -> int:
    """ComfyUI's usual port, or 0 for any free one if it is taken."""
    with socket.socket() as probe:
        return 0 if probe.connect_ex(("127.0.0.1", USUAL_PORT)) == 0 else USUAL_PORT


def serve(port: int, base: Path, greet: Callable[[str], None]) -> int:
    """Runs ComfyUI until it ends by itself. greet: prints what can be done at its address."""
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer(host_folder(), base, port) as server:
        greet(server.base_url)
        print(f"Files: {base}   Log: {server.log_path}")
        print("Ctrl-C stops it.", flush=True)
        code = server.wait()
        print(f"ComfyUI ended unexpectedly (code {code}); see {server.log_path}", file=sys.stderr)
        return 1


def greet(url: str) -> None:
    print(f"\n  {url}\n")
    print("Open it in a browser. Workflow > Browse Templates > fast-animatediff has the workflows;")
    print(f"'{CLIP_NAME}.mp4' and '{CLIP_NAME}.gif' are in the input folder.")
    print(
        f"The models are tiny: they know shapes of {SIZE}x{SIZE} pixels, such as '{TEXT_PROMPT}'. Before you run a"
    )
    print(
        f"workflow, set video_size to custom and {SIZE}x{SIZE}, or the size of a video to source; 512x512 takes minutes."
    )


def main(
    arguments: list[str] | None = None,
    name: str = "ui",
    description: str | None = __doc__,
    prepare: Callable[[Path], Callable[[str], None]] = lambda base: greet,
) -> int:
    """name: of the command. prepare: is given the folder of the models and clips before ComfyUI starts, and returns how to greet."""
    parser = argparse.ArgumentParser(f"dev.py {name}", description=description)
    parser.add_argument("--port", type=int, help=f"default: {USUAL_PORT}, or a free one if that is taken")
    options = parser.parse_args(arguments)
    try:
        base = base_folder()
        set_up(base)
        port = usual_port_if_free() if options.port is None else options.port
        return serve(port, base, prepare(base))
    except KeyboardInterrupt:  # of which dev.py tells
        return 0
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
