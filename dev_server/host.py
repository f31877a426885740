"""Where the host is, and the folders that the development server works in. `dev.py` sets both variables."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("custom_nodes", "input", "models", "output", "temp", "user")


def host_folder() -> Path:
    """ComfyUI's own folder: COMFYUI_PATH, else the one that `dev.py` fetched."""
    folder = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".dev" / "ComfyUI").resolve()
    if not (folder / "main.py").is_file():
        raise FileNotFoundError(
            f"ComfyUI was not found in {folder}. Run `python3 dev.py demo`, or set COMFYUI_PATH."
        )
    return folder


def base_folder() -> Path:
    """The development server's base directory: FAD_DEV_BASE, else `.dev/base` of the checkout."""
    return Path(os.environ.get("FAD_DEV_BASE") or ROOT / ".dev" / "base").resolve()


def use_host() -> None:
    """Makes the host's modules importable, on the processor. A process that has imported it already is left alone."""
    if "comfy" in sys.modules:
        return
    sys.path.insert(0, str(host_folder()))
    from comfy.cli_args import args

    args.cpu = True
