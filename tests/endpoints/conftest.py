from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fast_animatediff.dev_server.host import host_folder
from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.endpoints.comfyui.filling import FOLDER
from fast_animatediff.fleet.worker import free_port
from fast_animatediff.tests.browser.conftest import screenshots, tools  # noqa: F401  # fixtures
from fast_animatediff.tests.comfy_server import make_base
from fast_animatediff.tests.endpoints.network import Recorder, install_recorder
from fast_animatediff.tests.endpoints.served import TURBO, Served, write_settings


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """ComfyUI with the endpoints, without keys. A test that restarts it leaves it as it was."""
    served = Served(make_base(tmp_path_factory.mktemp("endpoints")))
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture(scope="session")
def second_server(served: Served) -> Iterator[ComfyServer]:
    """A second ComfyUI, with nodes that do it harm, and endpoints of its own that use one. A test may lose it."""
    shutil.copy(Path(__file__).with_name("harmful_nodes.py"), served.base / "custom_nodes")
    user, temp = served.base / "user-of-the-other", served.base / "temp-of-the-other"
    temp.mkdir()
    workflow = json.loads((FOLDER / "turbo-text-to-video.json").read_text(encoding="utf-8"))
    [sampler] = [node for node in workflow.values() if node["class_type"] == "FAD_Sampler"]
    for number, kind in enumerate(("EndThread", "Sleep"), 100):
        harmful = {"class_type": kind, "inputs": {"latent": sampler["inputs"]["latent_image"]}}
        (served.base / f"{kind}.json").write_text(json.dumps(workflow | {str(number): harmful}))
    own = f"[workflows]\n{json.dumps(TURBO)} = {json.dumps(str(served.base / 'EndThread.json'))}\n"
    write_settings(user, {"enabled": True, "max_pixels": 64 * 64}, own)
    other = ComfyServer(
        host_folder(),
        served.base,
        free_port(),
        ["--user-directory", str(user), "--temp-directory", str(temp)],
    )
    other.log_path = served.base / "other.log"
    with other:
        yield other


@pytest.fixture
def other(second_server: ComfyServer) -> ComfyServer:
    """The second ComfyUI, running whatever became of it before."""
    if not second_server.is_running:
        second_server.stop()
        second_server.start()
    return second_server


@pytest.fixture
def doomed(other: ComfyServer) -> ComfyServer:
    """The second ComfyUI, for a test that ends it: such tests come last, so that it need not start again for others."""
    return other


@pytest.fixture(scope="session")
def hook() -> Recorder:
    return install_recorder()


@pytest.fixture
def recorder(hook: Recorder) -> Iterator[Recorder]:
    """Sees every connect of this process during the test, and stops those that would leave the machine."""
    with hook.watch():
        yield hook
