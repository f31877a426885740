"""For the scripts of this folder, which are run by path: their folder as a package that they can import siblings from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

NAME = "fast_animatediff_tiny"


def as_package() -> str:
    """Registers this folder as a package and takes it off the module path; returns the package's name.

    Off the path, because the host has a module `server` too. The checkout's root is never put on it: its folder
    `nodes/` would hide the host's module of that name.
    """
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != folder]
    return NAME
