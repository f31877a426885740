"""The template for other farms, checked and run by the standard's own program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fast_animatediff.benchmarks.cluster.sleeper import line
from fast_animatediff.dev_server.host import ROOT
from fast_animatediff.dev_server.server import ComfyServer

pytestmark = [pytest.mark.server, pytest.mark.slow]
TEMPLATE = ROOT / "fleet" / "openjd" / "render.yaml"


def test_a_farm_renders_each_request_of_a_folder(
    ray_bin: Path, sleeper: ComfyServer, brief: Path, tmp_path: Path
) -> None:
    requests, out = tmp_path / "requests", tmp_path / "out"
    requests.mkdir()
    out.mkdir()
    for number in (1, 2):
        (requests / f"{number}.json").write_text(json.dumps(line(seed=500 + number)))
    given = {
        "Requests": requests,
        "Out": out,
        "Numbers": "1-2",
        "Dev": ROOT / "dev.py",
        "Python": sys.executable,
        "Comfyui": sleeper.base_url,
        "Settings": brief,
    }
    parameters = [part for name, value in given.items() for part in ("-p", f"{name}={value}")]
    subprocess.run([ray_bin / "openjd", "check", TEMPLATE], check=True)
    ran = subprocess.run([ray_bin / "openjd", "run", TEMPLATE, *parameters], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert sorted(file.name for file in out.iterdir()) == ["1.mp4", "2.mp4"]
    assert all(file.read_bytes()[4:8] == b"ftyp" for file in out.iterdir())
