"""Switched on, off or wrongly, the endpoints never keep the host from starting."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

import folder_paths
from comfy.cli_args import args
from fast_animatediff.dev_server.certificate import make_certificate
from fast_animatediff.dev_server.host import ROOT, host_folder
from fast_animatediff.endpoints import FILE_NAME, PREFIX
from fast_animatediff.endpoints.mounting import mount, this_host
from fast_animatediff.endpoints.serving import front
from fast_animatediff.endpoints.settings import Settings
from fast_animatediff.fleet.worker import free_port


def mounted(folder: Path, monkeypatch: pytest.MonkeyPatch, settings: str) -> bool:
    (folder / FILE_NAME).write_text(settings)
    monkeypatch.setattr(folder_paths, "user_directory", str(folder))
    app = web.Application()
    mount(app)
    return any(resource.canonical == "/fal" for resource in app.router.resources())


def test_they_are_there_only_when_switched_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not mounted(tmp_path, monkeypatch, "")
    assert mounted(tmp_path, monkeypatch, "enabled = true")
    monkeypatch.setenv("FAD_ENDPOINTS_ENABLED", "false")
    assert not mounted(tmp_path, monkeypatch, "enabled = true")


# What the pack does at the host's start, with modules withheld that only the endpoints need.
MOUNT = """
import importlib.util, sys
from pathlib import Path
host, folder, user, *withheld = sys.argv[1:]
sys.argv[1:] = []
for name in withheld:
    sys.modules[name] = None
sys.path.insert(0, host)
import folder_paths
folder_paths.set_user_directory(user)
spec = importlib.util.spec_from_file_location("endpoints", Path(folder, "__init__.py"), submodule_search_locations=[folder])
sys.modules["endpoints"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["endpoints"])
from endpoints.mounting import mount
mount(None)
print(*(name for name in sys.modules if name.startswith("endpoints.")))
"""
WITHHELD = (
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "typing_extensions",
    "aiohttp",
    "yarl",
    "sqlite3",
)


def mounted_without(tmp_path: Path, *withheld: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", MOUNT, host_folder(), ROOT / "endpoints", tmp_path, *withheld]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_while_they_are_off_nothing_that_only_they_need_is_imported(tmp_path: Path) -> None:
    done = mounted_without(tmp_path, *WITHHELD)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["endpoints.mounting"], "")


def test_what_they_need_and_is_not_there_is_said_in_the_log(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("enabled = true")
    done = mounted_without(tmp_path, *WITHHELD)
    assert done.returncode == 0 and "the endpoints stay off" in done.stderr and "pydantic" in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("enabled = true\nport = 1", "port is not a setting"),
        ("enabled = ", "is not TOML"),
        ('enabled = true\n[workflows]\n"fal-ai/fast-animatediff/text-to-video" = "none.json"', "none.json"),
    ],
)
def test_what_is_wrong_is_said_in_the_log_and_they_stay_off(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    settings: str,
    said: str,
) -> None:
    with caplog.at_level(logging.ERROR):
        assert not mounted(tmp_path, monkeypatch, settings)
    assert "the endpoints stay off" in caplog.text and said in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize("wrong", ["listen", "key"])
def test_a_second_port_that_cannot_be_had_is_said_in_the_log_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    certificate = make_certificate(tmp_path)
    key = load_pem_private_key(certificate.key.read_bytes(), None)
    secret = BestAvailableEncryption(b"secret") if wrong == "key" else NoEncryption()
    certificate.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    settings = Settings(
        database=tmp_path / "requests.sqlite3",
        listen="my..host:8190" if wrong == "listen" else f"127.0.0.1:{free_port()}",
        tls_certfile=certificate.certificate,
        tls_keyfile=certificate.key,
    )

    async def start_and_stop() -> None:
        runner = web.AppRunner(front(settings))
        await runner.setup()
        await runner.cleanup()

    asyncio.run(start_and_stop())
    assert "can't listen on" in caplog.text


@pytest.mark.parametrize(
    ("listening", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8188"),
        ("0.0.0.0,::", "http://127.0.0.1:8188"),
        ("::", "http://[::1]:8188"),
        ("192.168.1.5", "http://192.168.1.5:8188"),
        ("fd00::5", "http://[fd00::5]:8188"),
    ],
)
def test_the_host_is_asked_at_an_address_where_it_listens(
    monkeypatch: pytest.MonkeyPatch, listening: str, address: str
) -> None:
    monkeypatch.setattr(args, "listen", listening)
    monkeypatch.setattr(args, "port", 8188)
    assert this_host().url == address
