"""A sampler step on a card that isn't there: what it launches, and that nothing in it waits for the card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import comfy.ops
from fast_animatediff.benchmarks.compare import fake_cuda
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.layer_windows import in_windows, make_windows
from fast_animatediff.motion_modules.model import MotionModule, MotionModuleConfig
from fast_animatediff.motion_modules.schedule import make_sampling, sigmas_table
from fast_animatediff.motion_modules.windows import WindowSettings

ROOT = Path(__file__).resolve().parents[2]
WAITS_ALLOWED = {"cfg_until 0.5": 1, "start_percent 0.1, end_percent 0.9": 1}
UNET_KERNELS, LAYERS = 747, 21  # of the host's UNet and sampler; motion layers of a v2 module


def count(tmp_path, cases, dtype="fp16", free="78"):
    """The counts of one step by case, of a UNet with SD1.5's layers; their number does not depend on its width."""
    command = [sys.executable, ROOT / "benchmarks" / "counted.py", "--contender", "ours", "--free", free]
    command += ["--size", "test", "--pixels", "64", "--dtype", dtype, "--cases", cases, "--out", tmp_path]
    command += ["--frames", "28"]  # two windows: more of them wait no otherwise
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_step_never_waits_for_the_card_copies_nothing_to_it_and_takes_22_kernels_a_motion_layer_or_fewer_if_fused(
    tmp_path,
):
    steps = count(tmp_path, "defaults;fused passes;fused products")
    for name, kernels in {"defaults": 22, "fused passes": 16, "fused products": 11}.items():
        assert steps[name]["waits"] == steps[name]["uploads"] == {}
        assert steps[name]["kernels"] <= UNET_KERNELS + kernels * LAYERS
    assert steps["fused products"]["bytes"] < steps["fused passes"]["bytes"] < steps["defaults"]["bytes"]


@pytest.mark.slow
def test_no_option_waits_more_than_once_a_step(tmp_path):
    for name, step in count(tmp_path, "options", "bf16").items():
        waits, uploads = without_the_hosts_windows(step["waits"]), without_the_hosts_windows(step["uploads"])
        assert sum(waits.values()) == WAITS_ALLOWED.get(name, 0), (name, waits)
        assert uploads == {}, name


def without_the_hosts_windows(found):
    """The host's own context windows read the noise level, and copy indices and weights, for each window."""
    return {line: n for line, n in found.items() if "context_windows.py" not in line}


@pytest.fixture
def fake_cards(monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fake_cuda.attention)
    with fake_cuda.FakeCuda(), torch.no_grad():
        yield [torch.device("cuda", 0), torch.device("cuda", 1)]


def test_a_motion_module_on_a_second_card_uses_nothing_of_the_first(fake_cards):
    """FakeTensorMode refuses an operation on tensors of two cards."""
    config = MotionModuleConfig("test.safetensors", families.V2, (32, 64, 128, 128), 32, True)
    handler = make_windows(WindowSettings(4, 2, "looped_uniform", closed_loop=True, motion_layers_only=True))
    sampling = make_sampling(sigmas_table("linear"), None)
    for card in fake_cards:
        module = MotionModule(config, torch.float16, card, comfy.ops.manual_cast)
        module.place_positions(card, torch.float16)
        x = torch.empty(8, 32, 4, 4, dtype=torch.float16, device=card)
        windows = handler.layer_windows(8, card, torch.float16)
        for used in ((), windows):
            assert in_windows(module.at(("input", 1)), x, 8, used, 1.0, 1.0).device == card
        assert sampling.timestep(torch.ones(8, device=card)).device == card
