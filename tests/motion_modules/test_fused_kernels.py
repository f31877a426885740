"""Fused kernels compute what the blocks do; on the CPU Triton's interpreter runs them."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace

import components
import pytest
import torch
from test_temporal import features, transformer

import comfy.ops
from comfy.model_management import OOM_EXCEPTION
from comfy.patcher_extension import WrappersMP
from fast_animatediff.motion_modules import fused_blocks, fused_kernels, projections, temporal
from fast_animatediff.motion_modules.adapter import KEY, apply_motion_module
from fast_animatediff.motion_modules.fused_blocks import can_fuse_products, fused_passes, fused_products
from fast_animatediff.motion_modules.fused_kernels import FusedKernels
from fast_animatediff.motion_modules.motion_settings import MotionSettings
from fast_animatediff.motion_modules.temporal import TemporalTransformerBlock

pytest.importorskip("triton", reason="Triton comes with PyTorch on Linux")

PASSES, PRODUCTS = FusedKernels(always=fused_passes), FusedKernels(always=fused_products)
WAYS = pytest.mark.parametrize("way", [PASSES, PRODUCTS], ids=["passes", "products"])


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def merged(channels, positions=32):
    module = transformer(channels, positions)
    for attention in module.transformer_blocks[0].attention_blocks:
        attention.merge_projections(comfy.ops.manual_cast)
    return module


@WAYS
@pytest.mark.parametrize(("channels", "frames"), [(64, 1), (64, 7), (64, 16), (64, 32), (320, 6)])
def test_a_layer_is_the_same(channels, frames, way):
    """In fp32, which cards don't get the products in."""
    module, x = merged(channels), features(frames, channels, clips=2)
    assert (module(x, frames, run=way) - module(x, frames)).abs().max() < 2e-5


@WAYS
def test_it_is_the_same_in_fp16(way):
    module, x = merged(320).half(), features(16, 320).half()
    difference = (module(x, 16, run=way) - module(x, 16)).float()
    assert 0 < difference.norm() < 2e-3 * x.float().norm()


def test_more_frames_than_a_kernel_takes_are_attended_to_by_pytorch():
    module, x = merged(64, positions=40), features(40, 64)
    assert (module(x, 40, run=PASSES) - module(x, 40)).abs().max() < 1e-5
    assert not can_fuse_products(torch.empty(4, 40, 64, dtype=torch.float16), 1.0)


def test_each_frame_has_its_own_motion_scale():
    module, x = merged(64), features(6, 64, clips=2)
    scales = torch.linspace(0.5, 1.5, 6).view(-1, 1, 1, 1)
    found = module(x, 6, 1.0, scales, run=PASSES)
    assert (found - module(x, 6, 1.0, scales)).abs().max() < 1e-5
    assert (found - module(x, 6, run=PASSES)).abs().max() > 1e-3
    assert not can_fuse_products(torch.empty(4, 6, 64, dtype=torch.float16), scales)


@WAYS
def test_the_motion_scale_is_an_inverse_temperature(way):
    module, x = merged(64), features(6, 64)
    assert (module(x, 6, 1.0, 1.7, run=way) - module(x, 6, 1.0, 1.7)).abs().max() < 1e-5


@WAYS
def test_the_feed_forward_is_the_same_in_pieces(monkeypatch, way):
    module, x = merged(64), features(6, 64, size=4)
    expected = module(x, 6, run=way)
    monkeypatch.setattr(temporal, "FEED_FORWARD_ELEMENTS", 6 * 64 * 8 * 3)
    assert (module(x, 6, run=way) - expected).abs().max() < 1e-5


@WAYS
def test_no_more_layers_are_held_than_the_host_has_places_for(monkeypatch, way):
    """Weights that are not on the card go to two buffers by turns (comfy.model_management.get_offload_stream)."""
    held, most = [], []
    cast_once = projections.cast_once

    @contextmanager
    def watched(layer, x):
        with cast_once(layer, x) as found:
            if not isinstance(layer, projections.CastLayer):  # held already
                held.append(layer)
            most.append(len(held))
            yield found
            held[:] = [other for other in held if other is not layer]

    for module in (projections, fused_blocks):
        monkeypatch.setattr(module, "cast_once", watched)
    merged(64)(features(6, 64), 6, run=way)
    assert max(most) == 2 and not held


def with_fused_kernels(model, way):
    """The model with fused kernels, without a trial, which needs a card."""
    model = model.clone()
    [wrapper] = model.wrappers[WrappersMP.APPLY_MODEL][KEY]
    model.wrappers[WrappersMP.APPLY_MODEL][KEY] = [replace(wrapper, run=way)]
    return model


def test_a_whole_model_makes_the_same_frames():
    settings = MotionSettings(0.8, 1.2)
    model = apply_motion_module(components.sd15_model(), components.motion_module(), settings)
    x = components.noise(2)[..., :4, :4]
    expected, found = components.predict(model, x), components.predict(with_fused_kernels(model, PASSES), x)
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
    """Trials that take as long as said, PyTorch's first. Only a card can time them."""

    def taking(*milliseconds, change=0.0):
        times, made = iter(milliseconds), []

        def trial(run):
            made.append(run() + change * len(made))
            return next(times), made[-1]

        monkeypatch.setattr(fused_kernels, "trial", trial)
        return made

    return taking


HALF = features(6, 64).half()


@pytest.mark.parametrize(
    ("milliseconds", "fastest"),
    [
        ((1.5, 1.0, 2.0), fused_passes),
        ((1.5, 1.0, 0.5), fused_products),
        ((1.0, 1.5, 1.25), TemporalTransformerBlock.__call__),
    ],
)
def test_a_trial_chooses_the_fastest_way(trials, caplog, milliseconds, fastest):
    trials(*milliseconds)
    run, module = FusedKernels(), merged(64).half()
    with caplog.at_level(logging.INFO):
        found = module(HALF, 6, run=run)
    assert torch.equal(found, module(HALF, 6, run=FusedKernels(always=fastest)))
    times = "PyTorch's {:.2f}, fused passes {:.2f}, fused products {:.2f}".format(*milliseconds)
    assert f"64 channels, in milliseconds a block: {times}. The fastest is used." in caplog.text


def test_a_trial_is_made_once_for_each_shape(trials):
    made, run, module = trials(*[1.0, 2.0, 3.0] * 2), FusedKernels(), merged(64).half()
    for frames in (6, 6, 4):
        module(features(frames, 64).half(), frames, run=run)
    assert len(made) == 6


def test_kernels_that_differ_on_a_card_are_not_used(trials, caplog):
    trials(3.0, 2.0, 1.0, change=1.0)
    run, module = FusedKernels(), merged(64).half()
    assert torch.equal(module(HALF, 6, run=run), module(HALF, 6))
    assert caplog.text.count("differ from PyTorch's") == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_wrong_attention_is_seen_beside_large_features(dtype):
    """The block then adds a twentieth of what it is given."""
    module = merged(64)
    [block] = module.transformer_blocks
    x = 10 * torch.randn(20, 6, 64, generator=torch.Generator().manual_seed(1))
    positions = module.positions[:, :6]
    expected = block(x.clone(), positions, 1.0, 0)
    rounded = block(x.clone().to(dtype).float(), positions, 1.0, 0).to(dtype)
    wrong = block(x.clone(), positions, 1e-6, 0)  # attends to all frames alike
    x, expected, wrong = x.to(dtype), expected.to(dtype), wrong.to(dtype)
    assert fused_kernels.is_same(rounded, expected, x)
    assert not fused_kernels.is_same(wrong, expected, x)
    assert not fused_kernels.is_same(torch.full_like(x, torch.nan), expected, x)


def test_without_memory_for_a_trial_pytorchs_are_used(monkeypatch, caplog):
    def trial(run):
        raise OOM_EXCEPTION("out of memory")

    monkeypatch.setattr(fused_kernels, "trial", trial)
    run, module = FusedKernels(), merged(64).half()
    assert torch.equal(module(HALF, 6, run=run), module(HALF, 6))
    assert "Not enough memory to try fused kernels on 64 channels" in caplog.text


def test_weights_are_given_back_when_a_kernel_fails(monkeypatch):
    given, back = [], []
    cast, uncast = projections.cast_bias_weight, projections.uncast_bias_weight
    monkeypatch.setattr(projections, "cast_bias_weight", lambda *a, **o: given.append(a) or cast(*a, **o))
    monkeypatch.setattr(projections, "uncast_bias_weight", lambda *a: back.append(a) or uncast(*a))
    with pytest.raises(RuntimeError), projections.cast_once(merged(64).proj_in, features(2, 64)):
        raise RuntimeError("no such kernel")
    assert len(given) == len(back) == 1


def test_a_card_that_triton_has_no_kernels_for_uses_pytorchs(monkeypatch, caplog):
    def trial(run):
        if caplog.messages or tried:
            raise RuntimeError("sm_52 is not supported")
        tried.append(run())
        return 1.0, tried[0]

    tried = []
    monkeypatch.setattr(fused_kernels, "trial", trial)
    run, module = FusedKernels(), merged(64).half()
    assert torch.equal(module(HALF, 6, run=run), module(HALF, 6))
    assert caplog.text.count("here: sm_52 is not supported") == 2
