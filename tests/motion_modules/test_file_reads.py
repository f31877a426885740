"""A motion module's file is read once, however often its model leaves dynamic VRAM."""

from __future__ import annotations

import comfy_aimdo.control
import components
import pytest
import torch
from test_adapter import DynamicOnCpu

import comfy.hooks
import comfy.sample
import comfy.utils
from comfy_extras.nodes_torch_compile import TorchCompileModel
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.checkpoint import load_motion_module


@pytest.fixture
def motion_module(tmp_path, monkeypatch):
    """A module under dynamic VRAM, and the reads of its file, the first one included."""
    if not comfy_aimdo.control.init():
        pytest.skip("comfy-aimdo has no library for this operating system")
    path, reads = components.save(components.original_weights(), tmp_path / "mm.safetensors"), []
    read = comfy.utils.load_torch_file
    monkeypatch.setattr(
        comfy.utils, "load_torch_file", lambda path, *a, **k: reads.append(path) or read(path, *a, **k)
    )
    loaded = load_motion_module(path)
    dynamic = DynamicOnCpu(loaded.model, components.CPU, components.CPU)
    dynamic.cached_patcher_init = loaded.cached_patcher_init
    return dynamic, reads


def dynamic_base():
    base = components.sd15_model(patcher_class=DynamicOnCpu)
    base.cached_patcher_init = (lambda disable_dynamic=False: components.sd15_model(), ())
    return base


def test_three_runs_with_conditioning_hooks_read_it_once_more(motion_module):
    """Weight hooks make the host leave dynamic VRAM for each run; the first keeps what was read for the others."""
    motion, reads = motion_module
    base = dynamic_base()
    hook = comfy.hooks.WeightHook()
    key = "diffusion_model.input_blocks.0.0.weight"
    shape = base.model.diffusion_model.input_blocks[0][0].weight.shape
    hook.weights, hook.need_weight_init = {key: ("diff", (torch.ones(shape) * 0.1,))}, False
    group = comfy.hooks.HookGroup()
    group.add(hook)
    hooked = comfy.hooks.set_hooks_for_conditioning(components.conditioning(3), group)
    applied = apply_motion_module(base, motion)
    for seed in range(3):
        found = comfy.sample.sample(
            applied, components.noise(2), 1, 1.0, "euler", "simple", hooked, components.conditioning(5),
            torch.zeros(2, 4, 8, 8), seed=seed, disable_pbar=True,
        )  # fmt: skip
        assert torch.isfinite(found).all()
    assert len(reads) <= 2


def test_apply_on_a_unet_outside_dynamic_vram_reads_it_once_more(motion_module):
    motion, reads = motion_module
    for _ in range(3):
        apply_motion_module(components.sd15_model(), motion)
    assert len(reads) <= 2


def test_compiling_reads_it_once_more(motion_module):
    motion, reads = motion_module
    for _ in range(3):
        TorchCompileModel.execute(apply_motion_module(dynamic_base(), motion), "inductor")
    assert len(reads) <= 2
