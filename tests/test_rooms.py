"""The rooms of this checkout: which may import which, that no two modules import each other, how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACK = "fast_animatediff"  # the name that tests and scripts import the checkout by
MOST_LINES = 320

# What each room may import, beside itself. A file belongs to the innermost room that holds it; "" is the pack's
# __init__.py. What is not written down here is an arrow upwards.
ENDPOINTS = {f"endpoints/{room}" for room in ("protocol", "inputs", "comfyui", "requests", "web")}
PRODUCT = {"motion_modules", "video", "endpoints", "nodes", "replacements", "fleet"} | ENDPOINTS
DEVELOPMENT = {"tiny", "tiny/domain", "dev_server", "tiny/scoring"}
ARROWS: dict[str, set[str]] = {
    "motion_modules": set(),
    "video": set(),
    "endpoints/protocol": set(),
    "endpoints/inputs": {"endpoints/protocol"},
    "endpoints/comfyui": {"endpoints/protocol"},
    "endpoints/requests": {"endpoints/protocol", "endpoints/inputs", "endpoints/comfyui"},
    "endpoints/web": {"endpoints/protocol", "endpoints/inputs", "endpoints/comfyui", "endpoints/requests"},
    "endpoints": ENDPOINTS,
    "replacements": set(),
    "fleet": {"endpoints"} | ENDPOINTS - {"endpoints/web"},
    "nodes": {"motion_modules", "video"},
    "": {"nodes", "endpoints", "motion_modules", "replacements"},
    "tiny": set(),
    "tiny/domain": {"tiny"},
    "dev_server": {"tiny", "tiny/domain", "endpoints", "fleet"},
    "tiny/scoring": {"tiny", "tiny/domain", "dev_server"},
    "tiny/training": {"tiny", "tiny/domain", "dev_server", "motion_modules"},
    "bootstrap": {"replacements"},
    "dev.py": {"bootstrap"},
    "benchmarks": PRODUCT | DEVELOPMENT,
    "tests": {"", "dev.py", "bootstrap", "benchmarks"} | PRODUCT | DEVELOPMENT,
    "tests/tiny/training": {"tests", "tiny/training"} | PRODUCT | DEVELOPMENT,
}

Imports = dict[str, set[str]]  # by file, the files that it imports; all relative to the root, with slashes


def python_files(root: Path) -> list[str]:
    """Every Python file of a checkout but those in hidden folders (.venv, .dev)."""
    names = (path.relative_to(root) for path in sorted(root.rglob("*.py")))
    return [name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)]


def read_imports(root: Path) -> Imports:
    """What each file imports of the checkout, at the top, in functions, and for the type checker only."""
    files = python_files(root)
    known = set(files)
    return {name: set(imported_files(root, name, known)) - {name} for name in files}


def imported_files(root: Path, name: str, known: set[str]) -> Iterator[str]:
    folders = name.split("/")[:-1]
    for node in ast.walk(ast.parse((root / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folders[: len(folders) - node.level + 1] if node.level else []
            base = ([PACK, *base] if node.level else []) + (node.module or "").split(".")
            modules = [[*filter(None, base), alias.name] for alias in node.names]
        else:
            continue
        for module in modules:
            yield from filter(None, [find_file(module, name, known)])


def find_file(module: list[str], importer: str, known: set[str]) -> str | None:
    """The file of a module, of the package that holds the name, or None for what is not of the checkout."""
    if module[0] == PACK:
        places = [module[1:], module[1:-1]]
    else:  # beside the importer, as scripts and tests do, or at the root, as dev.py does
        beside = importer.split("/")[:-1]
        tops = (
            [beside[:depth] for depth in range(len(beside), -1, -1)] if importer[:5] == "tests" else [beside]
        )
        places = [[*top, *part] for part in (module, module[:-1]) if part for top in tops]
        places = [place for place in places if place[0] not in PRODUCT]  # `nodes` is the host's
    for place in places:
        for candidate in ("/".join(place) + ".py", "/".join([*place, "__init__.py"])):
            if candidate in known:
                return candidate
    return None


def room_of(name: str) -> str:
    rooms = [room for room in ARROWS if name == room or name.startswith(f"{room}/")]
    return max(rooms, key=len) if rooms else "" if name == "__init__.py" else name.split("/")[0]


def arrows_upwards(imports: Imports) -> list[str]:
    return [
        f"{name} imports {other}"
        for name, others in imports.items()
        for other in sorted(others)
        if room_of(other) not in ARROWS.get(room_of(name), set()) | {room_of(name)}
    ]


def find_cycle(imports: Imports) -> list[str]:
    """The files of a circle of imports in their order, empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def long_files(root: Path) -> list[str]:
    lengths = {name: len((root / name).read_bytes().splitlines()) for name in python_files(root)}
    return [f"{name}: {lines} lines" for name, lines in lengths.items() if lines > MOST_LINES]


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read_imports(ROOT)


def test_no_room_imports_from_one_above_it(imports: Imports) -> None:
    assert arrows_upwards(imports) == []


def test_no_modules_import_each_other(imports: Imports) -> None:
    assert find_cycle(imports) == []


def test_every_file_is_short_enough_to_be_read_at_once() -> None:
    assert long_files(ROOT) == []


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by it, and would find one in the place of the other."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_imports_of_this_checkout_are_found(imports: Imports) -> None:
    """So that the tests above do not pass for having looked at nothing."""
    for name, other in (
        ("__init__.py", "nodes/__init__.py"),
        ("nodes/motion.py", "motion_modules/adapter.py"),
        ("endpoints/web/routes.py", "endpoints/requests/lanes.py"),
        ("fleet/driver.py", "endpoints/requests/lanes.py"),
        ("dev_server/set_up.py", "tiny/make.py"),
        ("tiny/scoring/workflow_maker.py", "dev_server/client.py"),
        ("dev.py", "bootstrap/programs.py"),
        ("benchmarks/less_work.py", "tiny/domain/measures.py"),  # imported in a function
        ("tests/motion_modules/test_adapter.py", "tests/components.py"),
    ):
        assert other in imports[name], name
    assert {room_of(name) for name in imports} <= set(ARROWS)


@pytest.mark.parametrize(
    "line",
    [
        "from ..nodes.motion import Apply",
        "def f():\n    from ..nodes import motion",
        "import fast_animatediff.nodes.motion",
    ],
)
def test_an_arrow_upwards_is_named_with_both_files(tmp_path: Path, line: str) -> None:
    write_tree(tmp_path, {"nodes/motion.py": "", "video/frames.py": line})
    assert arrows_upwards(read_imports(tmp_path)) == ["video/frames.py imports nodes/motion.py"]


def test_a_circle_of_imports_is_named_file_by_file(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "video/one.py": "from .two import x",
            "video/two.py": "from fast_animatediff.video import three",
            "video/three.py": "def f():\n    from . import one",
        },
    )
    assert set(find_cycle(read_imports(tmp_path))) == {f"video/{name}.py" for name in ("one", "two", "three")}


def test_a_long_file_is_named_with_its_length(tmp_path: Path) -> None:
    write_tree(tmp_path, {"video/long.py": "\n" * (MOST_LINES + 1), ".venv/long.py": "\n" * 999})
    assert long_files(tmp_path) == [f"video/long.py: {MOST_LINES + 1} lines"]


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
