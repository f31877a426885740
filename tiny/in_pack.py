"""For the scripts that train, score or draw: this folder as a part of the pack, beside the motion modules' room that they use.

The pack's own `__init__.py`, which makes nodes, is not run; and no folder of the checkout is put on the module path,
as for `by_path`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

NAME = "fast_animatediff"


def as_part_of_pack() -> str:
    """Registers the checkout as a package and takes this folder off the module path; returns this folder's name in it."""
    folder = Path(__file__).resolve().parent
    if NAME not in sys.modules:
        root = folder.parent
        spec = importlib.util.spec_from_file_location(
            NAME, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != folder]
    return f"{NAME}.{folder.name}"
