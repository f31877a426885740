from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fast_animatediff.benchmarks.cluster.sleeper import make_sleeper, write_workflows
from fast_animatediff.dev_server.host import ROOT, host_folder
from fast_animatediff.dev_server.server import ComfyServer


@pytest.fixture(scope="session")
def sleeper_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sleeper(tmp_path_factory.mktemp("sleeper"))


@pytest.fixture(scope="session")
def sleeper(sleeper_base: Path) -> Iterator[ComfyServer]:
    """A ComfyUI with the sleeping nodes and no models."""
    with ComfyServer(host_folder(), sleeper_base) as server:
        yield server


@pytest.fixture(scope="session")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings whose workflows take half a second for the two steps of a request."""
    return write_workflows(tmp_path_factory.mktemp("brief"), 0.25)


@pytest.fixture(scope="session")
def ray_bin() -> Path:
    """The programs of the environment that has Ray, which `dev.py` makes."""
    command = [sys.executable, ROOT / "dev.py", "fleet", "ray", "--version"]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        assert sys.platform != "linux", made.stderr
        pytest.skip(f"Ray can't be installed here: {made.stderr}")
    return ROOT / ".dev" / "fleet-venv" / ("Scripts" if sys.platform == "win32" else "bin")
