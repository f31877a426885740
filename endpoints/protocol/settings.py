"""The owner's settings and what they may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .schemas import ENDPOINTS, Motion
from .spelling import is_address

MOTIONS = get_args(Motion)
SHORTEST_KEY = 8

ORIGIN = re.compile(r"\*|https?://[^\s/?#@]+")
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
    max_video_mb: int = Field(
        200,
        ge=1,
        description="Largest downloaded video in MiB. ComfyUI itself takes 100, unless --max-upload-size says more.",
    )
    max_pixels: int = Field(
        1024 * 1024, ge=64 * 64, description="Largest width x height; a larger video_size is scaled down."
    )
    max_queued: int = Field(1000, ge=1, description="How many requests may wait; more are refused.")
    silence_seconds: float = Field(
        3600.0, gt=0, description="How long a running request may make no progress before it is given up."
    )
    answer_seconds: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        description="How long a ComfyUI may answer nothing before its request goes to another one.",
    )
    fetch_seconds: float = Field(60.0, gt=0, allow_inf_nan=False, description="Longest download of a video.")
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
        forms: dict[str, tuple[Callable[[str], object], str]] = {
            "comfyui": (is_address, "an address such as http://127.0.0.1:8188"),
            "origins": (ORIGIN.fullmatch, "an origin such as https://example.com, or *"),
            "allowed_hosts": (
                HOST_MAYBE_PORT.fullmatch,
                "a host such as nas.local, 192.168.1.5 or nas.local:8080",
            ),
        }
        form, wanted = forms[info.field_name]
        entries = tuple(entry.strip().rstrip("/") for entry in entries)
        for entry in entries:
            if not form(entry):
                raise ValueError(f"{entry!r} is not {wanted}")
        return entries

    @field_validator("address")
    @classmethod
    def _address_is_one(cls, address: str | None) -> str | None:
        if address is not None and not is_address(address):
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
