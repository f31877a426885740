"""Serves the endpoints with the tiny models until Ctrl-C: `python3 dev.py serve [--port PORT]`.

Prints a call for each client that works as printed, in another terminal.
"""

from __future__ import annotations

import argparse
import os
import sys

from .certificate import make_certificate
from .host import base_folder, host_folder
from .server import ComfyServer, free_port
from .set_up import set_up
from .snippets import snippets
from .ui import usual_port_if_free


def serve(port: int) -> int:
    base = base_folder()
    set_up(base)
    certificate = make_certificate(base / "certificate")
    secure_port = free_port()
    os.environ |= {
        "FAD_ENDPOINTS_ENABLED": "true",
        "FAD_ENDPOINTS_LISTEN": f"127.0.0.1:{secure_port}",
        "FAD_ENDPOINTS_TLS_CERTFILE": str(certificate.certificate),
        "FAD_ENDPOINTS_TLS_KEYFILE": str(certificate.key),
    }
    print("Starting ComfyUI with the endpoints ...", flush=True)
    with ComfyServer(host_folder(), base, port) as server:
        for title, text in snippets(
            server.base_url, f"localhost:{secure_port}", certificate.authority
        ).items():
            print(f"\n---- {title}\n\n{text}")
        print(f"\n---- In a browser\n\n{server.base_url}/fal/\n")
        print("The models are tiny: they know shapes of 64x64 pixels, and nothing else.")
        print(f"Files: {base}   Log: {server.log_path}")
        print("Ctrl-C stops it.", flush=True)
        code = server.wait()
        print(f"ComfyUI ended unexpectedly (code {code}); see {server.log_path}", file=sys.stderr)
        return 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="default: 8188, or a free one if that is taken")
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
