"""A real ComfyUI server for the tests: this pack as a user installs it, and the tiny models, in a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fast_animatediff.dev_server.clip import write_clip
from fast_animatediff.dev_server.host import ROOT, host_folder
from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.dev_server.set_up import clips
from fast_animatediff.tests.untrained import write_untrained
from fast_animatediff.tiny.make import make_models

PACK_NAME = "fast-animatediff"
NOT_INSTALLED = ("__pycache__", "tests", "tiny", "benchmarks", "dev_server")


def install_pack(custom_nodes: Path) -> None:
    """Copies the pack under a name with a hyphen, without what the registry leaves out, and the tiny family."""
    names = [entry.name for entry in os.scandir(ROOT) if entry.name[0] == "." or entry.name in NOT_INSTALLED]
    shutil.copytree(ROOT, custom_nodes / PACK_NAME, ignore=shutil.ignore_patterns(*names, "__pycache__"))
    shutil.copytree(ROOT / "tiny" / "extension", custom_nodes / f"{PACK_NAME}-tiny")


def make_base(base: Path) -> Path:
    """A base directory with the tiny models, the demo's input clips and the pack."""
    make_models(base / "models")
    write_untrained(base / "models")
    for path in clips(base):
        write_clip(path)
    install_pack(base / "custom_nodes")
    return base


@pytest.fixture(scope="session")
def comfy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A running server: `base_url`, `base`, `client.run(prompt)`, `log_text()`."""
    with ComfyServer(host_folder(), make_base(tmp_path_factory.mktemp("comfy"))) as server:
        yield server
