"""Writes the score card: `run_in_pack.py tiny.scoring.score --base DIR`.

Asks a real ComfyUI server through the pack's own workflow files; DIR is a base directory with the models, as
`python3 dev.py demo` makes it. The numbers go to score.json, with the marks of the weights they belong to, and as a
table to the console.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch

from ...dev_server.clip import SIZE
from ...dev_server.host import base_folder, host_folder
from ...dev_server.server import ComfyServer
from ...dev_server.set_up import set_up
from ..make import mark_of
from ..shipped import SHIPPED
from .score_card import make_card, show
from .workflow_maker import WorkflowMaker

SCORE = Path(__file__).resolve().with_name("score.json")


def weights() -> dict[str, str]:
    """The marks of the shipped files."""
    return {name: mark_of(name) for name in sorted(set(SHIPPED.values()))}


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, PyTorch {torch.__version__}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=base_folder(), metavar="DIR")
    parser.add_argument("--clips", type=int, default=48, help="clips for each question")
    parser.add_argument("--size", type=int, default=SIZE, help="side of the clips in pixels")
    parser.add_argument("--out", type=Path, default=SCORE)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        set_up(options.base)
        with ComfyServer(host_folder(), options.base) as server:
            maker = WorkflowMaker(server.client, options.base.resolve(), options.size)
            card = make_card(maker, options.clips, options.size)
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    written = {"weights": weights(), "machine": machine(), "size": options.size, "scores": card}
    options.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(show(card), f"\n{time.monotonic() - started:.0f} s; written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
