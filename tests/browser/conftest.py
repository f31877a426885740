"""Runs the scripts of this folder in Node, against a real server. CHROMIUM and NODE_PATH come from `dev.py test`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from fast_animatediff.dev_server.server import ComfyServer

HERE = Path(__file__).resolve().parent
TIMEOUT = 150


def missing_tools() -> list[str]:
    """What the browser tests need and this machine or this call lacks."""
    there = {
        "Chromium (CHROMIUM)": shutil.which(os.environ.get("CHROMIUM", "")),
        "Node": shutil.which("node"),
        "playwright-core (NODE_PATH)": any(
            Path(folder, "playwright-core").is_dir()
            for folder in os.environ.get("NODE_PATH", "").split(os.pathsep)
            if folder
        ),
    }
    return [name for name, found in there.items() if not found]


@pytest.fixture(scope="session")
def tools() -> None:
    """Skips where a tool is missing, loudly; under CI that is an error."""
    missing = missing_tools()
    if not missing:
        return
    reason = f"THE PAGE WAS NOT TESTED: {', '.join(missing)} not found. `python3 dev.py test` sets it up."
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scripts leave their screenshots: FAD_SCREENSHOTS, else a folder that pytest keeps for a while."""
    named = os.environ.get("FAD_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(
    tools: None, comfy_server: ComfyServer, screenshots: Path, request: pytest.FixtureRequest
) -> Callable:
    """`visit("script.js", *arguments)` runs a script for a user who has changed no setting; returns what it printed."""
    kept = comfy_server.base / "user" / "default" / "comfy.settings.json"  # of all pages of the server
    settings = {
        "Comfy.InstalledVersion": version("comfyui-frontend-package"),
        "Comfy.TutorialCompleted": True,  # else the page opens the templates by itself
    }

    def run(script: str, *arguments: str | Path) -> dict:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(settings), encoding="utf-8")
        folder = screenshots / request.node.name.replace("/", " ")
        folder.mkdir(exist_ok=True)
        command = ["node", HERE / script, comfy_server.base_url, folder, *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == 0, f"{done.stderr}\nScreenshots: {folder}"
        return json.loads(done.stdout)

    return run
