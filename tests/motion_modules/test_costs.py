"""What a motion block costs, counted: the number cannot waver with the machine's load.

Measured in the same way, the block of AnimateDiff-Evolved takes 32 kernels, moves 99 times its features' memory and
holds 20 times as much at its peak.
"""

from __future__ import annotations

import pytest
import torch
from costs import Costs, costs_of

import comfy.ops
from fast_animatediff.motion_modules import projections
from fast_animatediff.motion_modules.temporal import TemporalTransformer

FRAMES = 16


def block_costs(channels: int, size: int, device: str, dtype: torch.dtype) -> tuple[Costs, int]:
    """The costs of a block for two clips, and the bytes of its input."""
    block = TemporalTransformer(channels, 32, dtype, torch.device(device), comfy.ops.manual_cast)
    for attention in block.transformer_blocks[0].attention_blocks:
        attention.merge_projections(comfy.ops.manual_cast)
    x = torch.zeros(2 * FRAMES, channels, size, size, device=device, dtype=dtype)
    return costs_of(lambda: block(x, FRAMES)), x.nbytes


@pytest.mark.skipif(not projections.HAS_ONEDNN, reason="no oneDNN here")
def test_a_motion_block_takes_at_most_22_kernels_and_80_times_its_input():
    costs, unit = block_costs(320, 16, "cpu", torch.float32)
    assert len(costs.kernels) <= 22, costs.kernels
    assert costs.bytes <= 80 * unit, costs.bytes / unit


def test_without_onednn_it_takes_two_sums_and_a_gelu_more(monkeypatch):
    monkeypatch.setattr(projections, "HAS_ONEDNN", False)
    costs, unit = block_costs(320, 16, "cpu", torch.float32)
    assert len(costs.kernels) <= 23, costs.kernels
    assert costs.bytes <= 85 * unit, costs.bytes / unit


@pytest.mark.parametrize("size", [64, 96, 128])
def test_memory_is_bounded_by_splitting_the_feed_forward(size):
    costs, unit = block_costs(320, size, "meta", torch.float16)
    assert costs.peak <= 8 * unit, costs.peak / unit
