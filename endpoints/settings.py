"""Reads the owner's settings: a TOML file in the host's user folder, overridden by environment variables."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from . import FILE_NAME, PREFIX
from .protocol.settings import Settings

TABLES = ("workflows", "motion_loras")  # in the file only
LISTS = ("keys", "comfyui", "origins", "allowed_hosts")  # separated by commas in a variable


def load(user_folder: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in the folder's file, if it exists, and in the variables; paths are relative to the folder.

    Raises ValueError with the file or variable, the setting, and what it should be.
    """
    file = user_folder / FILE_NAME
    given = _read(file) if file.is_file() else {}
    variables = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    _check_names(given, Settings.model_fields, FILE_NAME, "")
    allowed = [name for name in Settings.model_fields if name not in TABLES]
    _check_names((name[len(PREFIX) :].lower() for name in variables), allowed, "The environment", PREFIX)
    for name, text in variables.items():
        setting = name[len(PREFIX) :].lower()
        if setting in LISTS:
            given[setting] = [part.strip() for part in text.split(",") if part.strip()]
        elif text.strip():
            given[setting] = text.strip()
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise ValueError(_explain(error, variables)) from None
    return _with_absolute_paths(settings, user_folder)


def _read(file: Path) -> dict[str, Any]:
    try:
        tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ModuleNotFoundError:
        raise ValueError(
            f"{file.name}: Python 3.10 can't read TOML. Install tomli, use Python 3.11 or newer, or set the "
            f"{PREFIX}... variables instead of the file."
        ) from None
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file.name} is not TOML: {error}") from None


def _check_names(names: Iterable[str], known: Iterable[str], where: str, prefix: str) -> None:
    shown = {name: prefix + (name.upper() if prefix else name) for name in known}
    for name in names:
        if name not in shown:
            near = difflib.get_close_matches(name, shown, n=1)
            advice = f"did you mean {shown[near[0]]}?" if near else f"there are {', '.join(shown.values())}."
            raise ValueError(
                f"{where}: {prefix}{name.upper() if prefix else name} is not a setting; {advice}"
            )


def _explain(error: ValidationError, variables: Mapping[str, str]) -> str:
    """The first problem in words, without the value, which may be a key."""
    found = error.errors(include_input=False)[0]
    name = str(found["loc"][0]) if found["loc"] else ""
    variable = PREFIX + name.upper()
    where = variable if variable in variables else f"{FILE_NAME}: {name}" if name else "The settings"
    return f"{where}: {found['msg'].removeprefix('Value error, ')}."


def _with_absolute_paths(settings: Settings, folder: Path) -> Settings:
    paths = {
        name: folder / path
        for name in ("tls_certfile", "tls_keyfile", "database")
        if (path := getattr(settings, name)) is not None
    }
    own = {name: folder / path for name, path in settings.workflows.items()}
    return settings.model_copy(update={**paths, "workflows": own})
