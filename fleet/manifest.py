"""What is to be rendered: JSON lines, or a folder of videos. Checked as a whole, in the service's own wording."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..endpoints.protocol.schemas import ENDPOINTS, InvalidRequest, validate

FIELDS = ("endpoint", "input", "name")
NAME = re.compile(r"[^\W.][\w .,()+=@-]{0,99}")
LONGEST_NAME = 200  # bytes: with a suffix, and another while the file is written, it is a name on every disk
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".3gp", ".flv", ".gif")
SHOWN_WORDS = 40  # characters of a prompt in a name
SEED_BYTES = 4


@dataclass(frozen=True)
class Item:
    """One clip to be made. name: of its file, without suffix. input: as the service takes it, complete and with a seed.
    video: the local file in place of `video_url`."""

    name: str
    endpoint: str
    input: dict[str, Any]
    video: Path | None = None


class BadManifest(ValueError):
    """Every line that can't be rendered: its number (0: the whole) and the reason."""

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(f"line {line}: {why}" if line else why for line, why in self.problems))


def read_manifest(file: Path) -> list[Item]:
    """The items of a JSON lines file, in its order; empty lines are skipped. Errors: BadManifest; OSError."""
    lines = file.read_bytes().split(b"\n")
    return check((number, line) for number, line in enumerate(lines, 1) if line.strip())


def check(lines: Iterable[tuple[int, bytes]]) -> list[Item]:
    """The items of numbered lines. Errors: BadManifest with each line that is wrong."""
    items: list[Item] = []
    problems: list[tuple[int, str]] = []
    owners: dict[str, int] = {}
    equal: Counter[str] = Counter()
    for number, line in lines:
        try:
            item = read_item(line, equal)
        except ValueError as error:
            problems.append((number, str(error)))
            continue
        # Two names that only differ in case are one file on many disks.
        owner = owners.setdefault(item.name.casefold(), number)
        if owner != number:
            problems.append((number, f"name: {item.name!r} is taken by line {owner}"))
        items.append(item)
    if problems:
        raise BadManifest(problems)
    if not items:
        raise BadManifest([(0, "The manifest is empty: write one request on each line.")])
    return items


def read_item(line: bytes, equal: Counter[str]) -> Item:
    """One line. equal: as `own_name` takes it. Errors: ValueError, each problem with its field."""
    try:
        entry = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"this is not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        where = (
            f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        )
        raise ValueError(f"this is not JSON: {where}") from None
    if not isinstance(entry, dict):
        raise ValueError('this is not an object such as {"endpoint": ..., "input": {...}}')
    if unknown := sorted(set(entry) - set(FIELDS)):
        raise ValueError(f"{unknown[0]}: not a field; there are {', '.join(FIELDS)}")
    name = entry.get("name")
    if name is not None and not (
        isinstance(name, str) and NAME.fullmatch(name) and not RESERVED.fullmatch(name)
    ):
        raise ValueError(
            f"name: {name!r} is not a file name of letters, digits, spaces and .,()+=@-_ with at most 100 characters"
        )
    return make_item(entry.get("endpoint"), entry.get("input"), name, None, equal)


def make_item(endpoint: Any, given: Any, name: str | None, video: Path | None, equal: Counter[str]) -> Item:
    """Errors: ValueError, as `read_item`."""
    if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
        raise ValueError(f"Application {endpoint!r} not found. There are: {', '.join(ENDPOINTS)}.")
    if video and not ENDPOINTS[endpoint].takes_video:
        raise ValueError(f"{endpoint} takes no video")
    try:
        body = {**given, "video_url": ""} if video and isinstance(given, dict) else given
        request = validate(ENDPOINTS[endpoint], body)
    except InvalidRequest as error:
        said = [
            f"{'.'.join(map(str, found['loc'][1:])) or 'input'}: {found['msg']}" for found in error.detail
        ]
        raise ValueError("; ".join(said)) from None
    fields = request.model_dump(mode="json")
    for unknown in sorted(set(body) - set(fields)):  # which the service ignores, but here a night hangs on it
        near = difflib.get_close_matches(unknown, fields, n=1)
        advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
        raise ValueError(f"{unknown}: not a field of {endpoint}; {advice}")
    name = name or own_name(fields["prompt"], digest(endpoint, fields), equal)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # of a file in the folder
        raise ValueError(f"name: {name!r} is not UTF-8") from None
    if size > LONGEST_NAME:
        raise ValueError(f"name: {name!r} is longer than {LONGEST_NAME} bytes")
    if fields["seed"] is None:  # the same clip whenever it is rendered, and another one for another name
        drawn = hashlib.sha256(f"{name} {digest(endpoint, fields)}".encode()).digest()
        fields["seed"] = int.from_bytes(drawn[:SEED_BYTES], "big")
    return Item(name, endpoint, fields, video)


def own_name(prompt: str, key: str, equal: Counter[str]) -> str:
    """A name from what is asked for, so that it stays when lines are added before it. equal: counts those that ask for
    the same."""
    words = re.sub(r"\W+", "-", prompt)[:SHOWN_WORDS].strip("-_").lower() or "clip"
    name = f"{words}-{key[:8]}"
    equal[name] += 1
    return name if equal[name] == 1 else f"{name}-{equal[name]}"


def folder_items(folder: Path, endpoint: str, given: dict[str, Any]) -> list[Item]:
    """One item for each video of a folder, named as it is; hidden files, as macOS leaves beside videos, are none.

    Errors: BadManifest; OSError.
    """
    videos = (file for file in folder.iterdir() if file.suffix.lower() in VIDEOS and file.is_file())
    files = sorted(file for file in videos if not file.name.startswith("."))
    if not files:
        raise BadManifest([(0, f"There is no video in {folder.name} ({', '.join(VIDEOS)}).")])
    stems = [file.stem.casefold() for file in files]
    items: list[Item] = []
    try:
        for file in files:
            name = file.stem if stems.count(file.stem.casefold()) == 1 else file.name.replace(".", "-")
            if name in {item.name for item in items}:
                raise ValueError(f"name: {name!r} would be that of two results; rename {file.name!r}")
            items.append(make_item(endpoint, given, name, file, Counter()))
    except ValueError as error:
        raise BadManifest([(0, str(error))]) from None
    return items


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
