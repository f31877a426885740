"""What is checked without running anything: style by ruff, types by mypy."""

from __future__ import annotations

import os

from .host import relink
from .programs import DEV, ISOLATED, ROOT, run

TYPED_ROOMS = ["dev_server", "endpoints", "fleet", "motion_modules", "nodes", "video"]


def lint(env: dict[str, str], *command: str) -> int:
    return run([*ISOLATED, "ruff", *command, "."], env)


def check_types(env: dict[str, str]) -> int:
    """mypy on the rooms that have to be typed, with the checkout as the package `fast_animatediff`, as the host's."""
    folder = DEV / "types"
    folder.mkdir(exist_ok=True)
    relink(folder / "fast_animatediff", ROOT)
    rooms = [part for room in TYPED_ROOMS for part in ("-p", f"fast_animatediff.{room}")]
    command = [
        *ISOLATED,
        "mypy",
        "--config-file",
        ROOT / "pyproject.toml",
        "--cache-dir",
        DEV / "mypy",
        *rooms,
    ]
    # Not from the root, where our `nodes/` would pass for the host's module.
    return run(command, {**env, "MYPYPATH": os.pathsep.join([str(folder), env["COMFYUI_PATH"]])}, folder)
