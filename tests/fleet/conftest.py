from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fast_animatediff.dev_server.host import host_folder
from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.fleet.sleeper import make_sleeper, write_workflows


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
    """Settings whose workflows take half a second."""
    return write_workflows(tmp_path_factory.mktemp("brief"), 0.5)
