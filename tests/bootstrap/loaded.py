"""dev.py and its modules, loaded by path, so that the checkout stays off sys.path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load(name: str, path: Path, folders: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


for package in ("bootstrap", "replacements"):
    load(package, ROOT / package / "__init__.py", [str(ROOT / package)])
dev = load("dev", ROOT / "dev.py")
browser_tools, host, programs = (
    sys.modules[f"bootstrap.{name}"] for name in ("browser_tools", "host", "programs")
)
