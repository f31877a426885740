from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "nodes" / "web" / "docs"
LINK = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")  # with words for those who can't see it


def linked(page: Path) -> set[Path]:
    return {(page.parent / target).resolve() for target in LINK.findall(page.read_text(encoding="utf-8"))}


def test_every_picture_is_shown_somewhere_and_every_shown_picture_is_there() -> None:
    pages = [*DOCS.glob("*.md"), ROOT / "README.md"]
    shown = set().union(*map(linked, pages))
    assert shown == {*DOCS.glob("*.webp"), ROOT / "benchmarks" / "plot.svg"} and len(shown) >= 6


def test_pictures_move_and_are_small() -> None:
    for path in DOCS.glob("*.webp"):
        with Image.open(path) as picture:
            assert picture.n_frames >= 8 and path.stat().st_size < 600_000, path.name
