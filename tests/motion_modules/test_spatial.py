from __future__ import annotations

import components
import pytest

from comfy.ldm.modules.attention import BasicTransformerBlock
from fast_animatediff.motion_modules import cpu, spatial
from fast_animatediff.motion_modules.adapter import apply_motion_module

FRAMES = 5


@pytest.fixture
def applied():
    return apply_motion_module(components.sd15_model(), components.motion_module())


def test_some_frames_at_a_time_give_the_same_result(applied, monkeypatch):
    x = components.noise(2 * FRAMES)
    expected = components.predict(applied, x, cfg_chunks=2)
    monkeypatch.setattr(spatial, "FEED_FORWARD_ELEMENTS", 20_000)
    result = components.predict(applied, x, cfg_chunks=2)
    assert (result - expected).norm() / expected.norm() < 1e-5


def test_a_patch_inside_sees_all_frames_at_once(applied, monkeypatch):
    monkeypatch.setattr(spatial, "FEED_FORWARD_ELEMENTS", 1000)
    batches = set()
    applied.set_model_attn1_patch(lambda q, k, v, options: batches.add(q.shape[0]) or (q, k, v))
    components.predict(applied, components.noise(FRAMES))
    assert batches == {FRAMES}


def test_another_packs_attention_sees_all_frames_at_once(applied, monkeypatch):
    monkeypatch.setattr(spatial, "FEED_FORWARD_ELEMENTS", 1000)
    batches = set()

    def attention(chosen_by_host, q, *arguments, **options):
        batches.add(q.shape[0])
        return cpu.pytorch_attention(chosen_by_host, q, *arguments, **options)

    applied.model_options["transformer_options"][cpu.ATTENTION] = attention
    components.predict(applied, components.noise(FRAMES))
    assert batches == {FRAMES}


def test_a_block_whose_forward_another_pack_replaced_sees_all_frames_at_once(applied, monkeypatch):
    """Reference attention keeps the whole batch's features from one call for the next."""
    monkeypatch.setattr(spatial, "FEED_FORWARD_ELEMENTS", 1000)
    batches = set()
    for block in applied.model.diffusion_model.modules():
        if isinstance(block, BasicTransformerBlock):
            monkeypatch.setattr(block, "forward", counting(block.forward, batches))
    components.predict(applied, components.noise(FRAMES))
    assert batches == {FRAMES}


def counting(forward, batches):
    def counted(x, *arguments, **options):
        batches.add(x.shape[0])
        return forward(x, *arguments, **options)

    return counted
