"""Fused kernels compute what the blocks do; on the CPU Triton's interpreter runs them."""

from __future__ import annotations

import logging

import components
import pytest
import torch
from test_temporal import features, transformer

import comfy.ops
from comfy.patcher_extension import WrappersMP
from fast_animatediff.motion_modules import fused_kernels, temporal
from fast_animatediff.motion_modules.adapter import KEY, apply_motion_module
from fast_animatediff.motion_modules.fused_kernels import FusedKernels
from fast_animatediff.motion_modules.motion_settings import MotionSettings

pytest.importorskip("triton", reason="Triton comes with PyTorch on Linux")

FUSED = FusedKernels(always=True)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def merged(channels, positions=32):
    module = transformer(channels, positions)
    for attention in module.transformer_blocks[0].attention_blocks:
        attention.merge_projections(comfy.ops.manual_cast)
    return module


@pytest.mark.parametrize("channels", [64, 320])
@pytest.mark.parametrize("frames", [1, 7, 16, 32, 40])
def test_a_layer_is_the_same(channels, frames):
    module, x = merged(channels, positions=40), features(frames, channels, clips=2)
    assert (module(x, frames, run=FUSED) - module(x, frames)).abs().max() < 1e-5


def test_it_is_the_same_in_fp16():
    module, x = merged(320).half(), features(16, 320).half()
    difference = (module(x, 16, run=FUSED) - module(x, 16)).float()
    assert difference.norm() < 2e-3 * x.float().norm()


def test_each_frame_has_its_own_motion_scale():
    module, x = merged(64), features(6, 64, clips=2)
    scales = torch.linspace(0.5, 1.5, 6).view(-1, 1, 1, 1)
    found, expected = (
        module(x, 6, 1.0, scales, run=run) for run in (FUSED, type(module.transformer_blocks[0]).__call__)
    )
    assert (found - expected).abs().max() < 1e-5
    assert (found - module(x, 6, run=FUSED)).abs().max() > 1e-3


def test_the_feed_forward_is_the_same_in_pieces(monkeypatch):
    module, x = merged(64), features(6, 64, size=4)
    expected = module(x, 6, run=FUSED)
    monkeypatch.setattr(temporal, "FEED_FORWARD_ELEMENTS", 6 * 64 * 8 * 3)
    assert (module(x, 6, run=FUSED) - expected).abs().max() < 1e-5


def with_fused_kernels(model):
    """The model with fused kernels, without a trial, which needs a card."""
    model = model.clone()
    [wrapper] = model.wrappers[WrappersMP.APPLY_MODEL][KEY]
    model.wrappers[WrappersMP.APPLY_MODEL][KEY] = [wrapper.__class__(**{**vars(wrapper), "run": FUSED})]
    return model


def test_a_whole_model_makes_the_same_frames():
    settings = MotionSettings(0.8, 1.2)
    model = apply_motion_module(components.sd15_model(), components.motion_module(), settings)
    x = components.noise(6)
    expected, found = components.predict(model, x), components.predict(with_fused_kernels(model), x)
    assert (found - expected).abs().max() < 2e-5 and not torch.equal(found, expected)


# ---- whether they are used


def test_without_a_card_they_are_not_used_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        model = apply_motion_module(
            components.sd15_model(), components.motion_module(), MotionSettings(fused_kernels=True)
        )
    assert (
        "fused_kernels has no effect: it needs an NVIDIA or AMD GPU, and this model runs on cpu"
        in caplog.text
    )
    plain = apply_motion_module(components.sd15_model(), components.motion_module())
    x = components.noise(4)
    assert torch.equal(components.predict(model, x), components.predict(plain, x))


@pytest.fixture
def trials(monkeypatch):
    """Trials that take as long as said: ours, then PyTorch's. Only a card can time them."""

    def taking(*seconds, change=0.0):
        times = iter(seconds)
        made = []

        def trial(run):
            made.append(run() + change * (not made))
            return next(times), made[-1]

        monkeypatch.setattr(fused_kernels, "trial", trial)
        return made

    return taking


@pytest.mark.parametrize(("ours", "theirs", "word"), [(1.0, 1.5, "used"), (1.5, 1.0, "not used")])
def test_a_trial_decides_once_for_each_shape(trials, caplog, ours, theirs, word):
    made, run, module = trials(ours, theirs, ours, theirs), FusedKernels(), merged(64)
    with caplog.at_level(logging.INFO):
        for frames in (6, 6, 4):
            module(features(frames, 64), frames, run=run)
    assert len(made) == 4 and list(run.faster.values()) == [ours < theirs] * 2
    assert f"64 channels: {theirs / ours:.2f} times as fast as PyTorch's: {word}." in caplog.text


def test_kernels_that_differ_on_a_card_are_not_used(trials, caplog):
    trials(1.0, 2.0, change=1.0)
    run, module, x = FusedKernels(), merged(64), features(6, 64)
    assert torch.equal(module(x, 6, run=run), module(x, 6))
    assert "differ from PyTorch's" in caplog.text and list(run.faster.values()) == [False]


def test_a_card_that_triton_has_no_kernels_for_uses_pytorchs(monkeypatch, caplog):
    def fails(_):
        raise RuntimeError("sm_52 is not supported")

    monkeypatch.setattr(fused_kernels, "trial", fails)
    run, module, x = FusedKernels(), merged(64), features(6, 64)
    assert torch.equal(module(x, 6, run=run), module(x, 6))
    assert "PyTorch's are used: sm_52 is not supported" in caplog.text
