"""`python3 dev.py convert FILE`: a workflow made for other AnimateDiff packs becomes one for this pack."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from replacements.convert import Conversion, convert


def convert_workflow(arguments: list[str]) -> int:
    """Writes `NAME converted.json` beside each file and says what was replaced, what stays, and what is lost."""
    if not arguments or arguments[0].startswith("-"):
        print(
            "usage: python3 dev.py convert FILE [FILE ...]  # a workflow of ComfyUI's page, or an API prompt"
        )
        return 2
    return max(convert_file(Path(name)) for name in arguments)


def convert_file(path: Path) -> int:
    try:
        conversion = convert(read_document(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"{path}: can't be read: {reason}", file=sys.stderr)
        return 1
    report(path, conversion)
    if not conversion.replaced:
        return 0
    target = path.with_name(f"{path.stem} converted.json")
    if target.exists():
        print(f"{target} exists and was left alone. Move it away and run this again.", file=sys.stderr)
        return 1
    target.write_text(json.dumps(conversion.document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"  written: {target}")
    return 0


def read_document(path: Path) -> Any:
    """The JSON in a file, as people's editors save it too. Errors: OSError; ValueError for anything else."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError("It is not JSON. Save the workflow with Export in the page's menu.") from error


def report(path: Path, conversion: Conversion) -> None:
    print(f"{path}: {len(conversion.replaced)} nodes replaced")
    for type, number in Counter(type for _, type in conversion.replaced).items():
        print(f"  {number} x {type}")
    for note in conversion.notes:
        print(f"  note: {note}")
    for id, type in conversion.left:
        print(f"  stays: {type} (node {id}); nothing here replaces it")
