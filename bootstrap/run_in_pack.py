"""Runs a module of this checkout: `python bootstrap/run_in_pack.py tiny.scoring.score [arguments]`.

The checkout becomes the package `fast_animatediff`, whose `__init__.py`, which makes nodes, is not run. No folder of
it is put on the module path: its `nodes/` would hide the host's module of that name.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

NAME = "fast_animatediff"
ROOT = Path(__file__).resolve().parents[1]


def run_in_pack(module: str) -> None:
    """Runs `module`, named from the root of the checkout, as the main program; it finds its arguments in sys.argv."""
    spec = importlib.util.spec_from_file_location(
        NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != ROOT / "bootstrap"]
    runpy.run_module(f"{NAME}.{module}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_in_pack(sys.argv.pop(1))
