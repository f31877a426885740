"""The benchmark of long clips, on a short one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fast_animatediff.dev_server.host import ROOT, host_folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read as Linux gives it")
def test_both_ways_of_a_long_clip_are_measured_in_tenths() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "long_clips.py", "--vae", "means", "--seconds", "2"]
    env = {**os.environ, "COMFYUI_PATH": str(host_folder())}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    long = done.stdout.partition("long.mp4")[2]
    assert "16 frames; their latents take" in long and long.count("export  tenth") >= 4
