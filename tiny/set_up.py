"""Puts what the demo and the page need into the development server's base directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .clip import SUFFIXES, write_clip

CLIP_NAME = "moving shapes"
MAKE = Path(__file__).resolve().with_name("make.py")
EXTENSIONS = ("fast-animatediff", "fast-animatediff-tiny")


def clips(base: Path) -> list[Path]:
    """Where the demo's input clips are, the mp4 first."""
    return [base / "input" / f"{CLIP_NAME}{suffix}" for suffix in SUFFIXES]


def set_up(base: Path) -> None:
    """Makes the tiny models and the input clips where they are missing.

    Errors: RuntimeError when the pack is not among the base directory's custom nodes, or the models can't be made.
    """
    for name in EXTENSIONS:
        if not (base / "custom_nodes" / name / "__init__.py").is_file():
            raise RuntimeError(f"{name} is not in {base / 'custom_nodes'}. Run `python3 dev.py demo`.")
    # In a process of its own: it imports the host, which this one does without.
    made = subprocess.run([sys.executable, str(MAKE), "--out", str(base / "models")])
    if made.returncode:
        raise RuntimeError("The tiny models could not be made; the reason is above.")
    for path in clips(base):
        if not path.is_file():
            write_clip(path)
