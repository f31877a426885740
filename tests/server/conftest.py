"""A real server for these tests, with one node more that tells what is loaded in its process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fast_animatediff.dev_server.client import Finished, NodeFailed
from fast_animatediff.dev_server.host import host_folder
from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.comfy_server import make_base
from fast_animatediff.tests.workflows.graphs import Prompt, turbo_text_to_video

PROBE = Path(__file__).resolve().parent / "probe"


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """The server: `base`, `client.run(prompt)`, `log_text()`."""
    base = make_base(tmp_path_factory.mktemp("server"))
    shutil.copytree(PROBE, base / "custom_nodes" / "probe", ignore=shutil.ignore_patterns("__pycache__"))
    with ComfyServer(host_folder(), base) as server:
        yield server


@pytest.fixture
def video(comfy: ComfyServer) -> Callable[[Prompt], Path]:
    """Runs a prompt; returns the only file it wrote into the output folder."""

    def run(prompt: Prompt) -> Path:
        finished: Finished = comfy.client.run(prompt)
        (path,) = (file for file in finished.files(comfy.base) if file.is_relative_to(comfy.base / "output"))
        return path

    return run


@pytest.fixture
def failure(comfy: ComfyServer) -> Iterator[Callable[[Prompt], NodeFailed]]:
    """Runs a prompt that must fail on a node; afterwards nothing may have been written, and the next prompt works."""
    before = written_files(comfy)

    def run(prompt: Prompt) -> NodeFailed:
        with pytest.raises(NodeFailed) as caught:
            comfy.client.run(prompt)
        status = finished_status(comfy, caught.value.details["prompt_id"])
        assert status["status_str"] == "error"
        assert str(comfy.base) not in caught.value.message
        return caught.value

    yield run
    assert written_files(comfy) == before
    comfy.client.run(turbo_text_to_video(frames=2))


def finished_status(comfy: ComfyServer, prompt_id: str) -> dict:
    """The status in /history, which has a failed prompt a moment after the websocket."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        history = comfy.client.get(f"/history/{prompt_id}")
        if history:
            return history[prompt_id]["status"]
        time.sleep(0.02)
    raise TimeoutError("The failed prompt did not appear in /history.")


def written_files(comfy: ComfyServer) -> set[Path]:
    """Every video in the output folder, and hidden files."""
    files = (path for path in (comfy.base / "output").rglob("*") if path.is_file())
    return {path for path in files if path.suffix or path.name.startswith(".")}
