"""What the arguments of `render` and `fleet` ask for: which ComfyUIs do the work, and how they are run."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..endpoints.comfyui.filling import fill, load_workflows
from ..endpoints.protocol.schemas import ENDPOINTS, validate
from ..endpoints.protocol.settings import Settings
from .worker import WARM_VIDEO, Comfy
from .workers import Size

CHILD = Path(__file__).resolve().parents[1] / "bootstrap" / "comfy_child.py"


class BadOption(ValueError):
    """An argument that can't be used, and why."""


def worker_size(options: argparse.Namespace) -> Size:
    """Errors: BadOption."""
    if options.per_node is not None and options.per_node < 1:
        raise BadOption("--per-node has to be at least 1.")
    if options.workers == "auto":
        if options.least < 0 or (options.most is not None and options.most < max(1, options.least)):
            raise BadOption("--least has to be 0 or more, --most at least 1 and not below --least.")
        return Size(options.least, options.most)
    if not options.workers.isdecimal() or int(options.workers) < 1:
        raise BadOption(f"--workers has to be a number above 0 or auto, not {options.workers!r}.")
    return Size(int(options.workers), int(options.workers))


def comfy(options: argparse.Namespace, warm: Iterable[dict[str, Any]]) -> Comfy:
    """How the ComfyUI is run that the options name, by default the one that `dev.py` fetched, on the processor.

    Errors: BadOption.
    """
    if not options.hang_seconds > 0:
        raise BadOption("--hang-seconds has to be above 0.")
    folder = Path(options.comfyui or os.environ["COMFYUI_PATH"]).expanduser()
    more = shlex.split(options.options)
    if has_tiny_models(options):
        more += ["--cpu", "--use-pytorch-cross-attention", "--disable-api-nodes"]
    return Comfy(
        folder=str(folder),
        python=options.python or find_python(folder) or sys.executable,
        shared=options.shared or (os.environ["FAD_DEV_BASE"] if has_tiny_models(options) else str(folder)),
        child=CHILD.read_text(encoding="utf-8"),
        options=tuple(more),
        warm=tuple(warm),
        hang_seconds=options.hang_seconds,
    )


def has_tiny_models(options: argparse.Namespace) -> bool:
    """Whether no ComfyUI is named, so that `dev.py` brings its own."""
    return not (options.comfyui or os.environ.get("FAD_OWN_COMFYUI"))


def find_python(folder: Path) -> str | None:
    for venv in (".venv", "venv"):
        for place in ("bin/python", "Scripts/python.exe"):
            if (folder / venv / place).is_file():
                return str(folder / venv / place)
    return None


def warm_prompts(endpoints: Iterable[str], settings: Settings) -> list[dict[str, Any]]:
    """The smallest prompt of each endpoint's workflow. Errors: ValueError for a workflow that can't be used."""
    workflows = load_workflows(settings)
    prompts = []
    for name in endpoints:
        endpoint = ENDPOINTS[name]
        few = {"prompt": "warm-up", "num_inference_steps": 1, "seed": 0, "fps": 1}
        small = (
            {"video_url": ""}
            if endpoint.takes_video
            else {"num_frames": 2, "video_size": {"width": 64, "height": 64}}
        )
        filled = fill(endpoint, workflows[name], validate(endpoint, few | small), settings)
        if endpoint.takes_video:
            filled.set_video(WARM_VIDEO)
        prompts.append(filled.prompt)
    return prompts
