"""Puts what the demo and the page need into the development server's base directory."""

from __future__ import annotations

from pathlib import Path

from ..tiny.make import make_models
from .clip import SUFFIXES, write_clip
from .host import base_folder

CLIP_NAME = "moving circle"
EXTENSIONS = ("fast-animatediff", "fast-animatediff-tiny")


def clips(base: Path) -> list[Path]:
    """Where the demo's input clips are, the mp4 first."""
    return [base / "input" / f"{CLIP_NAME}{suffix}" for suffix in SUFFIXES]


def set_up(base: Path) -> None:
    """Makes the tiny models and the input clips if they are missing.

    Errors: RuntimeError when the pack is not among the base directory's custom nodes; FileExistsError where another
    model has the name of a tiny one.
    """
    for name in EXTENSIONS:
        if not (base / "custom_nodes" / name / "__init__.py").is_file():
            raise RuntimeError(f"{name} is not in {base / 'custom_nodes'}. Run `python3 dev.py demo`.")
    for path in make_models(base / "models"):
        print(f"  {path.relative_to(base)}  {path.stat().st_size / 1e6:.1f} MB", flush=True)
    for path in clips(base):
        if not path.is_file():
            write_clip(path)


if __name__ == "__main__":
    set_up(base_folder())
