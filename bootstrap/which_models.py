"""Which files of the list of weights are wanted, and whether a checkpoint of the same kind is there already."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Protocol, TypeVar

PACK = Path(__file__).resolve().parents[1]
WORKFLOWS = PACK / "workflows"
LIST = WORKFLOWS / "models" / "models.json"
COMMON = "animatediff sd1.5 "  # what all titles begin with
# In the header of an SD1.5 checkpoint: attention to a text of width 768.
SD15_LAYER, SD15_SHAPE = (
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    [320, 768],
)


class Listed(Protocol):
    """A file of the list, as far as choosing it goes."""

    name: str
    folder: str


W = TypeVar("W", bound=Listed)


class DownloadError(RuntimeError):
    """Why a file was not downloaded and what to do next, written for the console."""


def models_arguments() -> argparse.ArgumentParser:
    """The arguments of the download; here, so that their help needs nothing but the standard library."""
    parser = argparse.ArgumentParser(
        prog="dev.py models",
        description="Shows, then downloads the weights that the workflows name into a ComfyUI's model folders: resumable and checked.",
    )
    parser.add_argument("--comfyui", metavar="PATH", help="the ComfyUI whose models folder gets the files")
    parser.add_argument("--yes", action="store_true", help="download without asking")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="only files with one of these words in their folder or name, such as turbo's: AnimateLCM",
    )
    parser.add_argument(
        "--workflow",
        nargs="+",
        default=[],
        metavar="TITLE",
        help='only files that these workflows name, such as "Turbo Text to Video"',
    )
    parser.add_argument(
        "--list", type=Path, default=LIST, metavar="FILE", help="another list, in the form of models.json"
    )
    return parser


def choose(wanted: list[W], words: list[str], workflows: list[str]) -> list[W]:
    """Those with one of the words in `folder/name`, whatever its case, and those that a workflow names; else all.

    workflows: words of the titles of files in workflows/. Errors: DownloadError where nothing is found.
    """
    named = {name for title in workflows for name in names_in_workflow(title)}
    found = [
        w
        for w in wanted
        if w.name in named
        or any(word.lower() in f"{w.folder}/{w.name}".lower() for word in words)
        or not (words or workflows)
    ]
    if not found:
        raise DownloadError(f"No file of the list has {' or '.join(words)} in its folder or name.")
    return found


def names_in_workflow(title: str) -> set[str]:
    """The model files that a workflow of this pack names, for the page's dialog of missing models."""
    files = {path.stem: path for path in sorted(WORKFLOWS.glob("*.json"))}
    alike = [
        name for name in files if name.lower().removeprefix(COMMON) == title.lower().removeprefix(COMMON)
    ]
    alike = alike or [name for name in files if title.lower() in name.lower()]
    if len(alike) != 1:
        raise DownloadError(f"Which workflow is '{title}'? Name one of these: {', '.join(alike or files)}.")
    nodes = json.loads(files[alike[0]].read_text(encoding="utf-8"))["nodes"]
    return {model["name"] for node in nodes for model in node.get("properties", {}).get("models", [])}


def own_checkpoint(models: Path) -> str | None:
    """The name of a safetensors checkpoint in models/checkpoints that has SD1.5's layout."""
    folder = models / "checkpoints"
    files = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []
    return next((path.relative_to(folder).as_posix() for path in files if is_sd15(path)), None)


def is_sd15(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 1 << 26)))
        return header.get(SD15_LAYER, {}).get("shape") == SD15_SHAPE
    except (OSError, ValueError, AttributeError):
        return False
