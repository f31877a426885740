from __future__ import annotations

from collections.abc import Iterator

import pytest

from fast_animatediff.tests.browser.conftest import screenshots, tools  # noqa: F401  # fixtures
from fast_animatediff.tests.comfy_server import make_base
from fast_animatediff.tests.endpoints.network import Recorder, install_recorder
from fast_animatediff.tests.endpoints.served import Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """ComfyUI with the endpoints, without keys. A test that restarts it leaves it as it was."""
    served = Served(make_base(tmp_path_factory.mktemp("endpoints")))
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture(scope="session")
def hook() -> Recorder:
    return install_recorder()


@pytest.fixture
def recorder(hook: Recorder) -> Iterator[Recorder]:
    """Sees every connect of this process during the test, and stops those that would leave the machine."""
    with hook.watch():
        yield hook
