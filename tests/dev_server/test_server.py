from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fast_animatediff.dev_server.client import NodeFailed, Progress, PromptRefused
from fast_animatediff.dev_server.host import host_folder
from fast_animatediff.dev_server.server import CHILD, ComfyServer
from fast_animatediff.tiny.shipped import CHECKPOINT

CHECKPOINT_NAME = Path(CHECKPOINT).name


def picture_prompt(steps: int = 2, seed: int = 0, latent: str = "EmptyLatentImage") -> dict:
    """A picture by core nodes only."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT_NAME}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a red circle"}},
        "3": {"class_type": latent, "inputs": {"width": 64, "height": 64, "batch_size": 2}},
        "4": {
            "class_type": "KSampler",
            "_meta": {"title": "My Sampler"},
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["2", 0],
                "latent_image": ["3", 0],
                "seed": seed,
                "steps": steps,
                "cfg": 2.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "tiny"}},
    }


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_a_prompt_of_core_nodes_makes_pictures_in_range(comfy_server: ComfyServer) -> None:
    finished = comfy_server.client.run(picture_prompt(steps=6))
    files = finished.files(comfy_server.base)
    assert [path.suffix for path in files] == [".png", ".png"]
    for path in files:
        pixels = np.asarray(Image.open(path).convert("RGB")) / 255
        assert pixels.shape == (64, 64, 3)
        assert 0.2 < pixels.mean() < 0.8 and pixels.std() > 0.05
        assert ((pixels < 0.01) | (pixels > 0.99)).mean() < 0.2


def test_progress_names_the_nodes_and_counts_the_steps(comfy_server: ComfyServer) -> None:
    seen: list[Progress] = []
    comfy_server.client.run(picture_prompt(steps=3, seed=1), seen.append)
    steps = [p.step for p in seen if p.title == "My Sampler" and p.total == 3]
    assert steps == sorted(steps) and steps[-1] == 3  # the host leaves out steps that come fast
    assert seen[-1].class_type == "SaveImage"


def test_an_error_in_a_node_is_raised_with_its_message_and_the_server_goes_on(
    comfy_server: ComfyServer,
) -> None:
    broken = picture_prompt(latent="EmptySD3LatentImage")
    broken["5"]["inputs"]["samples"] = ["3", 0]
    with pytest.raises(NodeFailed, match=r"VAEDecode \(node 5\): .*16 channels") as raised:
        comfy_server.client.run(broken)
    assert (raised.value.node_id, raised.value.class_type) == ("5", "VAEDecode")
    assert comfy_server.client.run(picture_prompt(seed=2)).outputs


def test_a_prompt_that_is_refused_says_which_node_and_why(comfy_server: ComfyServer) -> None:
    with pytest.raises(PromptRefused, match=r"KSampler \(node 4\): .*steps"):
        comfy_server.client.run(picture_prompt(steps=0))


def test_a_prompt_over_its_time_is_cancelled(comfy_server: ComfyServer) -> None:
    with pytest.raises(TimeoutError):
        comfy_server.client.run(picture_prompt(steps=10_000, seed=3), timeout=1)
    assert comfy_server.client.run(picture_prompt(seed=4), timeout=60).outputs


def test_the_pack_is_loaded_from_a_folder_with_a_hyphen(comfy_server: ComfyServer) -> None:
    packs = [line for line in comfy_server.log_text().splitlines() if "custom_nodes" in line]
    assert any(line.endswith("fast-animatediff") for line in packs)
    assert not [line for line in packs if "FAILED" in line]


def test_the_server_is_gone_after_an_exception(tmp_path: Path) -> None:
    server = ComfyServer(host_folder(), tmp_path)
    with pytest.raises(KeyboardInterrupt), server:
        assert answers(server.port)
        raise KeyboardInterrupt
    assert not answers(server.port)
    assert server.pid is None
    assert "Stopped server" in server.log_text()


def test_a_server_that_can_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    server = ComfyServer(host_folder(), tmp_path, options=["--no-such-option"])
    with pytest.raises(RuntimeError, match="unrecognized arguments: --no-such-option"):
        server.start()
    assert server.pid is None


def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """With a main.py that only waits: what ends the child is not the host."""
    started, ended = tmp_path / "started", tmp_path / "ended"
    (tmp_path / "main.py").write_text(
        "import atexit, pathlib, sys, time\n"
        "started, ended = map(pathlib.Path, sys.argv[1:])\n"
        "atexit.register(ended.touch)\n"
        "started.touch()\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, str(CHILD), str(tmp_path / "main.py"), str(started), str(ended)]
    start = f"import subprocess, time; subprocess.Popen({command!r}, stdin=subprocess.PIPE); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", start], stderr=subprocess.DEVNULL)
    try:
        assert wait_for(started.exists, 20)
        assert not ended.exists()
    finally:
        parent.kill()
        parent.wait()
    assert wait_for(ended.exists, 20)


def test_garbage_is_collected_again_as_soon_as_the_server_listens(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import gc, socket\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 0)\n"
        "socket.create_server(('127.0.0.1', 0)).close()\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 0)\n"
    )
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(tmp_path / "main.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.read().split() == ["False", "False", "True", "True"]
    child.communicate()


def test_nothing_is_written_outside_the_base_directory(comfy_server: ComfyServer) -> None:
    stats = comfy_server.client.get("/system_stats")
    assert str(comfy_server.base) in json.dumps(stats["system"]["argv"])
    made = (comfy_server.base / "custom_nodes").stat().st_mtime  # before the server was started
    assert not [p for p in host_folder().glob("user/comfyui.db*") if p.stat().st_mtime > made]
