"""What a motion block costs, counted: the number cannot waver with the machine's load.

Measured in the same way, the block of AnimateDiff-Evolved takes 32 kernels, moves 99 times its features' memory and
holds 20 times as much at its peak.
"""

from __future__ import annotations

import pytest
import torch
from costs import Costs, costs_of

import comfy.ops
from fast_animatediff.motion_modules import cpu, projections
from fast_animatediff.motion_modules.temporal import TemporalTransformer

FRAMES = 16


def block_costs(channels: int, size: int, device: str, dtype: torch.dtype) -> tuple[Costs, int]:
    """The costs of a block for two clips, and the bytes of its input."""
    block = TemporalTransformer(channels, 32, dtype, torch.device(device), comfy.ops.manual_cast)
    for attention in block.transformer_blocks[0].attention_blocks:
        attention.merge_projections(comfy.ops.manual_cast)
    x = torch.zeros(2 * FRAMES, channels, size, size, device=device, dtype=dtype)
    return costs_of(lambda: block(x, FRAMES)), x.nbytes


NATIVE_BF16 = pytest.mark.skipif(not cpu.has_native_bf16(), reason="a processor without bf16")


@pytest.mark.skipif(not projections.HAS_ONEDNN, reason="no oneDNN here")
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=NATIVE_BF16)])
def test_a_motion_block_takes_at_most_22_kernels_and_80_times_its_input_on_a_cpu(dtype):
    costs, unit = block_costs(320, 16, "cpu", dtype)
    assert len(costs.kernels) <= 22, costs.kernels
    assert costs.bytes <= 80 * unit, costs.bytes / unit


@NATIVE_BF16
def test_a_small_one_in_bf16_takes_28_kernels_where_attention_is_matrix_products():
    costs, _ = block_costs(320, 8, "cpu", torch.bfloat16)
    assert len(costs.kernels) <= 28, costs.kernels


def test_it_takes_23_kernels_without_onednn_as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(projections, "HAS_ONEDNN", False)
    costs, unit = block_costs(320, 16, "cpu", torch.float32)
    assert len(costs.kernels) <= 23, costs.kernels
    assert costs.bytes <= 85 * unit, costs.bytes / unit


@pytest.mark.parametrize("size", [64, 96, 128])
def test_memory_is_bounded_by_splitting_the_feed_forward(size):
    costs, unit = block_costs(320, size, "meta", torch.float16)
    assert costs.peak <= 8 * unit, costs.peak / unit
