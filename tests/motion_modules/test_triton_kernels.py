"""Each kernel computes what PyTorch's operators do: on a card, or in Triton's interpreter, which has no products in bf16."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fast_animatediff.motion_modules.temporal import HEADS

products = pytest.importorskip(
    "fast_animatediff.motion_modules.triton_products",
    reason="Triton comes with PyTorch on Linux",
    exc_type=ImportError,
)
kernels = pytest.importorskip(
    "fast_animatediff.motion_modules.triton_kernels",
    reason="Triton comes with PyTorch on Linux",
    exc_type=ImportError,
)

ROOT = Path(__file__).resolve().parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CHANNELS = [64, 320, 640, 1280]  # heads of 8, 40, 80 and 160


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(DEVICE, dtype)


def tolerance(dtype, size=1.0):
    """A few units in the last place."""
    return 4 * torch.finfo(dtype).eps * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", CHANNELS)
def test_norm_adds_each_frames_positions(channels, dtype):
    x, positions = random(5, 3, channels, dtype=dtype), random(1, 3, channels, dtype=dtype)
    weight, bias = random(channels, dtype=dtype, seed=1), random(channels, dtype=dtype, seed=2)
    found = kernels.norm(x, weight, bias, 1e-5, positions)
    expected = F.layer_norm(x, (channels,), weight, bias) + positions
    assert (found - expected).abs().max() <= tolerance(dtype, 16.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("is_last", [False, True])
def test_add_norm_adds_then_norms_and_keeps_the_sum(channels, dtype, is_last):
    x, y = random(5, 3, channels, dtype=dtype), random(5, 3, channels, dtype=dtype, seed=3)
    weight, bias = random(channels, dtype=dtype, seed=1), random(channels, dtype=dtype, seed=2)
    positions = None if is_last else random(1, 3, channels, dtype=dtype)
    shift = random(channels, dtype=dtype, seed=4) if is_last else None
    total = x + y
    expected = F.layer_norm(total, (channels,), weight, bias) + (0 if positions is None else positions)
    found = kernels.add_norm(x, y, weight, bias, 1e-5, positions, shift)
    assert (found - expected).abs().max() <= tolerance(dtype, 16.0)
    assert (x - (total if shift is None else total + shift)).abs().max() <= tolerance(dtype, 4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [64, 640])
def test_geglu_is_the_value_times_gelu_of_the_gate(channels, dtype):
    x = 3 * random(4, 3, 8 * channels, dtype=dtype)
    value, gate = x.chunk(2, dim=-1)
    assert (kernels.geglu(x) - F.gelu(gate) * value).abs().max() <= tolerance(dtype, 64.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("frames", [1, 2, 7, 15, 16, 17, 24, 32])
@pytest.mark.parametrize("channels", CHANNELS)
def test_attention_is_over_the_frames_of_each_pixel(channels, frames, dtype):
    qkv = random(5, frames, 3 * channels, dtype=dtype)
    scale = 1.3 * (channels // HEADS) ** -0.5
    q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2).float() for part in qkv.chunk(3, dim=-1))
    expected = F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(2)
    found = kernels.attention(qkv, HEADS, scale)
    assert found.dtype == dtype and (found.float() - expected).abs().max() <= tolerance(dtype, 16.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("channels", "frames"), [(64, 1), (64, 24), (320, 7), (320, 16), (320, 32), (640, 16)]
)
def test_norm_and_attention_are_one(channels, frames, dtype):
    x, y = (random(3, frames, channels, dtype=dtype, seed=seed) for seed in (0, 3))
    weight, bias = random(channels, dtype=dtype, seed=1), random(channels, dtype=dtype, seed=2)
    positions = random(1, frames, channels, dtype=dtype)
    qkv = random(3 * channels, channels, dtype=dtype) * channels**-0.5
    norm, rest = (weight, bias, 1e-5, positions), (qkv, HEADS, (channels // HEADS) ** -0.5)

    def expected(x):
        h = F.layer_norm(x, (channels,), weight, bias) + positions
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2).float() for part in F.linear(h, qkv).chunk(3, -1)
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    found = products.norm_attention(x, *norm, *rest)
    assert (found.float() - expected(x)).abs().max() <= tolerance(dtype, 16.0)
    total, found = products.add_norm_attention(x, y, *norm, *rest)
    assert torch.equal(total, x + y)
    assert (found.float() - expected(x + y)).abs().max() <= tolerance(dtype, 16.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("channels", "rows"), [(32, 3), (64, 130), (320, 5)])
def test_the_product_before_geglu_is_part_of_it(channels, rows, dtype):
    x, weight = (
        random(rows, 2, channels, dtype=dtype),
        random(8 * channels, channels, dtype=dtype) * channels**-0.5,
    )
    bias = random(8 * channels, dtype=dtype)
    value, gate = F.linear(x, weight, bias).chunk(2, dim=-1)
    found = products.geglu_product(x, weight, bias)
    assert (found - F.gelu(gate) * value).abs().max() <= tolerance(dtype, 32.0)


def test_attention_of_large_features_does_not_overflow_in_fp16():
    qkv = 100 * random(2, 16, 3 * 320, dtype=torch.float16)
    assert kernels.attention(qkv, HEADS, 1.0).isfinite().all()


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_operators_know_their_shapes_without_values(channels):
    """For torch.compile, and for counting."""
    x, vector = random(2, 4, channels), random(channels)
    positions = random(1, 4, channels)
    torch.library.opcheck(kernels.norm, (x, vector, vector, 1e-5, positions), test_utils="test_faketensor")
    for rest in ((positions, None), (None, vector)):
        torch.library.opcheck(
            kernels.add_norm, (x, x + 1, vector, vector, 1e-5, *rest), test_utils="test_faketensor"
        )
    torch.library.opcheck(kernels.geglu, (random(2, 4, 8 * channels),), test_utils="test_faketensor")
    torch.library.opcheck(
        kernels.attention, (random(2, 4, 3 * channels), HEADS, 0.1), test_utils="test_faketensor"
    )
    if channels > 320:  # the interpreter's products take seconds
        return
    norm, rest = (vector, vector, 1e-5, positions), (random(3 * channels, channels), HEADS, 0.1)
    torch.library.opcheck(products.norm_attention, (x, *norm, *rest), test_utils="test_faketensor")
    torch.library.opcheck(products.add_norm_attention, (x, x + 1, *norm, *rest), test_utils="test_faketensor")
    wide = random(8 * channels, channels), random(8 * channels)
    torch.library.opcheck(products.geglu_product, (x, *wide), test_utils="test_faketensor")


# ---- for cards


@pytest.mark.slow
def test_compiled_for_the_cards_with_the_least_memory_no_kernel_spills_or_needs_more(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "kernels.py", "--cards", "86", "--out", tmp_path]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    [written] = tmp_path.glob("kernels-*/results.json")
    programs = json.loads(written.read_text())
    assert {program["card"] for program in programs} == {86}
    for program in programs:
        assert program["registers"] < 255 and program["spilled"] == 0, program
        assert program["shared"] <= program["most_shared"], program
