"""The owner's settings: a TOML file in the host's user folder, overridden by environment variables."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from . import FILE_NAME, PREFIX
from .requests import ENDPOINTS, Motion

TABLES = ("workflows", "motion_loras")  # in the file only
LISTS = ("keys", "comfyui", "origins", "allowed_hosts")  # separated by commas in a variable
MOTIONS = get_args(Motion)
SHORTEST_KEY = 8

ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
HOST = r"(?:\[[0-9a-fA-F:.]+\]|[^\s/:\[\]@,]+)"
HOST_MAYBE_PORT = re.compile(rf"{HOST}(?::\d+)?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
HOST_AND_PORT = re.compile(rf"{HOST}:(?P<port>\d{{1,5}})", re.ASCII)


class Settings(BaseModel):
    """How the endpoints are served. FAD_ENDPOINTS_<NAME> sets the same, except for the two tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(False, description="Whether the endpoints are served.")
    keys: tuple[str, ...] = Field(
        (),
        repr=False,
        description="Keys for /fal; none: only this machine may use it. The rest of ComfyUI stays as open as it is.",
    )
    comfyui: tuple[str, ...] = Field(
        (), description="Addresses of the ComfyUIs that do the work; by default this one."
    )
    address: str | None = Field(
        None, description="The public address, for links; by default the one that the client used."
    )
    origins: tuple[str, ...] = Field(
        (), description="Origins of other pages that may use the endpoints; * for all."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Hosts that are not public but that video_url and fal_webhook may name."
    )
    listen: str | None = Field(
        None, description="host:port of a second server, for TLS and for pages of other origins."
    )
    tls_certfile: Path | None = Field(None, description="Certificate of that server, PEM.")
    tls_keyfile: Path | None = Field(None, description="Its private key, PEM.")
    database: Path = Field(Path("fast-animatediff-endpoints.sqlite3"), description="Where requests are kept.")
    max_body_mb: int = Field(100, ge=1, description="Largest request in MiB, including data URIs.")
    max_upload_mb: int = Field(500, ge=1, description="Largest uploaded file in MiB.")
    max_video_mb: int = Field(200, ge=1, description="Largest downloaded video in MiB.")
    max_pixels: int = Field(
        1024 * 1024, ge=64 * 64, description="Largest width x height; a larger video_size is scaled down."
    )
    max_queued: int = Field(1000, ge=1, description="How many requests may wait; more are refused.")
    silence_seconds: float = Field(
        3600.0, gt=0, description="How long a running request may make no progress before it is given up."
    )
    fetch_seconds: float = Field(60.0, gt=0, description="Longest download of a video.")
    keep_hours: float = Field(72.0, gt=0, description="How long ended requests are kept; files stay.")
    webhooks: bool = Field(True, description="Whether results are sent to fal_webhook.")
    webhook_attempts: int = Field(10, ge=1, description="How often a webhook is tried.")
    workflows: dict[str, Path] = Field({}, description="Files with API prompts of your own, by endpoint id.")
    motion_loras: dict[str, str] = Field({}, description="Motion LoRA files, by name of the motion.")

    @field_validator("keys")
    @classmethod
    def _keys_are_long(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(key) < SHORTEST_KEY or re.search(r"\s", key) for key in keys):
            raise ValueError(f"a key needs at least {SHORTEST_KEY} characters and no spaces")
        return keys

    @field_validator("comfyui", "origins", "allowed_hosts")
    @classmethod
    def _entries_are_addresses(cls, entries: tuple[str, ...], info: Any) -> tuple[str, ...]:
        forms = {
            "comfyui": (ADDRESS, "an address such as http://127.0.0.1:8188"),
            "origins": (re.compile(r"\*|https?://[^\s/?#@]+"), "an origin such as https://example.com, or *"),
            "allowed_hosts": (HOST_MAYBE_PORT, "a host such as nas.local, 192.168.1.5 or nas.local:8080"),
        }
        form, wanted = forms[info.field_name]
        entries = tuple(entry.strip().rstrip("/") for entry in entries)
        for entry in entries:
            if not form.fullmatch(entry):
                raise ValueError(f"{entry!r} is not {wanted}")
        return entries

    @field_validator("address")
    @classmethod
    def _address_is_one(cls, address: str | None) -> str | None:
        if address is not None and not ADDRESS.fullmatch(address):
            raise ValueError(f"{address!r} is not an address such as https://gpu.example.com")
        return address and address.rstrip("/")

    @field_validator("listen")
    @classmethod
    def _listen_has_a_port(cls, listen: str | None) -> str | None:
        if listen is not None:
            found = HOST_AND_PORT.fullmatch(listen)
            if not found or not 0 < int(found["port"]) < 1 << 16:
                raise ValueError(f"{listen!r} is not host:port such as 127.0.0.1:8190")
        return listen

    @field_validator("workflows", "motion_loras")
    @classmethod
    def _names_are_known(cls, table: dict[str, Any], info: Any) -> dict[str, Any]:
        known = ENDPOINTS if info.field_name == "workflows" else MOTIONS
        for name in table:
            if name not in known:
                raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        return table

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Settings:
        if (self.tls_certfile is None) != (self.tls_keyfile is None):
            raise ValueError("tls_certfile and tls_keyfile must be set together")
        if "*" in self.origins and not self.keys:
            raise ValueError("origins with * needs keys: without them every web page could use this machine")
        if self.tls_certfile is not None and self.listen is None:
            raise ValueError("TLS needs listen: for its own port the host has --tls-certfile")
        return self


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
