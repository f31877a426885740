"""Serves the endpoints with the tiny models until Ctrl-C: `python3 dev.py serve [--port PORT]`.

Prints a call for each client that works as printed, in another terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..fleet.worker import free_port
from . import ui
from .certificate import make_certificate
from .snippets import snippets


def switch_endpoints_on(base: Path) -> Callable[[str], None]:
    certificate = make_certificate(base / "certificate")
    secure_port = free_port()
    os.environ |= {
        "FAD_ENDPOINTS_ENABLED": "true",
        "FAD_ENDPOINTS_LISTEN": f"127.0.0.1:{secure_port}",
        "FAD_ENDPOINTS_TLS_CERTFILE": str(certificate.certificate),
        "FAD_ENDPOINTS_TLS_KEYFILE": str(certificate.key),
    }

    def greet(url: str) -> None:
        for title, text in snippets(url, f"localhost:{secure_port}", certificate.authority).items():
            print(f"\n---- {title}\n\n{text}")
        print(f"\n---- In a browser\n\n{url}/fal/\n")
        print(
            "The models are tiny: they know shapes of 64x64 pixels, and nothing else. On that page choose Turbo text to video, the"
        )
        print("size custom, 64x64, and a prompt such as 'a red circle moving left'; 512x512 takes minutes.")

    return greet


def main(arguments: list[str] | None = None) -> int:
    return ui.main(arguments, "serve", __doc__, switch_endpoints_on)


if __name__ == "__main__":
    sys.exit(main())
