"""Serves ComfyUI's page with this pack and the tiny models until Ctrl-C: `python3 dev.py ui [--port PORT]`."""

from __future__ import annotations

import argparse
import socket
import sys

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


def serve(port: int) -> int:
    base = base_folder()
    set_up(base)
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer(host_folder(), base, port) as server:
        print(f"\n  {server.base_url}\n")
        print("Open it in a browser. Workflow > Browse Templates > fast-animatediff has the workflows;")
        print(f"'{CLIP_NAME}.mp4' and '{CLIP_NAME}.gif' are in the input folder.")
        print(f"The models are tiny: they know shapes of {SIZE}x{SIZE} pixels, such as '{TEXT_PROMPT}'.")
        print(f"Files: {base}   Log: {server.log_path}")
        print("Ctrl-C stops it.", flush=True)
        code = server.wait()
        print(f"ComfyUI ended unexpectedly (code {code}); see {server.log_path}", file=sys.stderr)
        return 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help=f"default: {USUAL_PORT}, or a free one if that is taken")
    options = parser.parse_args(arguments)
    try:
        return serve(usual_port_if_free() if options.port is None else options.port)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
