from __future__ import annotations

import components
import pytest
import reference
import torch
from costs import costs_of
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

import comfy.ops
from comfy.ldm.modules.attention import attention_pytorch
from fast_animatediff.motion_modules import projections, temporal
from fast_animatediff.motion_modules.temporal import TemporalTransformer, sinusoidal_positions


def transformer(channels: int, positions: int = 32, seed: int = 0) -> TemporalTransformer:
    module = TemporalTransformer(
        channels, positions, torch.float32, torch.device("cpu"), comfy.ops.manual_cast
    )
    components.randomize(module, seed)
    return module.eval().requires_grad_(False)


def features(frames: int, channels: int, size: int = 2, clips: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    x = torch.randn(clips * frames, channels, size, size, generator=generator)
    return (
        x + torch.linspace(0, 1, clips * frames)[:, None, None, None]
    )  # brightness drifts, as in real clips


@pytest.fixture(params=[True, False], ids=["onednn", "no onednn"], autouse=True)
def onednn(request, monkeypatch):
    """Both on processors with oneDNN's joined kernels and on all others."""
    if request.param and not projections.HAS_ONEDNN:
        pytest.skip("no oneDNN here")
    monkeypatch.setattr(projections, "HAS_ONEDNN", request.param)
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("channels", [64, 320])
@pytest.mark.parametrize("frames", [1, 2, 7, 16, 32])
def test_equals_the_paper_written_out_pixel_by_pixel(channels, frames):
    module = transformer(channels)
    x = features(frames, channels)
    expected = reference.temporal_transformer(x, module.state_dict())
    assert (module(x, frames) - expected).abs().max() < 1e-5


class PerFrameNorm(torch.nn.Module):
    def __init__(self, norm: torch.nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, _, f, _, _ = x.shape
        return self.norm(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, f)).transpose(1, 2)


def diffusers_transformer(
    module: TemporalTransformer, channels: int, positions: int
) -> AnimateDiffTransformer3D:
    oracle = AnimateDiffTransformer3D(
        num_attention_heads=8,
        attention_head_dim=channels // 8,
        in_channels=channels,
        activation_fn="geglu",
        double_self_attention=True,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=positions,
    )
    prefix = "down_blocks.0.motion_modules.0."
    weights = {prefix + "temporal_transformer." + key: value for key, value in module.state_dict().items()}
    weights = {key.removeprefix(prefix): v for key, v in components.diffusers_weights(weights).items()}
    missing = oracle.load_state_dict(weights, strict=False)
    assert missing.missing_keys in ([], ["transformer_blocks.0.pos_embed.pe"]) and not missing.unexpected_keys
    # diffusers normalises (b, c, f, h, w); the weights were trained with each frame normalised by itself.
    oracle.norm = PerFrameNorm(oracle.norm)
    return oracle.eval().requires_grad_(False)


@pytest.mark.parametrize("channels", [320, 640, pytest.param(1280, marks=pytest.mark.slow)])
def test_equals_diffusers_with_its_norm_made_per_frame_at_every_length(channels):
    module = transformer(channels)
    oracle = diffusers_transformer(module, channels, 32)
    for frames in range(1, 33):
        x = features(frames, channels)
        assert (module(x, frames) - oracle(x, num_frames=frames)).abs().max() < 1e-5, frames


def test_two_clips_in_a_batch_are_two_clips():
    module = transformer(64)
    x = features(5, 64, clips=2)
    both = module(x, 5)
    assert torch.allclose(both[:5], module(x[:5], 5), atol=1e-6)
    assert torch.allclose(both[5:], module(x[5:], 5), atol=1e-6)


def test_strength_blends_between_the_input_and_the_module():
    module = transformer(64)
    x = features(6, 64)
    full = module(x, 6)
    assert torch.equal(module(x, 6, strength=0.0), x)
    assert torch.allclose(module(x, 6, strength=0.3), x + 0.3 * (full - x), atol=1e-6)


def test_motion_scale_multiplies_the_keys():
    module = transformer(64)
    x = features(6, 64)
    expected = reference.temporal_transformer(x, module.state_dict(), motion_scale=1.3)
    assert (module(x, 6, motion_scale=1.3) - expected).abs().max() < 1e-5


def merged(module: TemporalTransformer) -> TemporalTransformer:
    for attention in module.transformer_blocks[0].attention_blocks:
        attention.merge_projections(comfy.ops.manual_cast)
    return module


def test_merging_the_projections_changes_nothing():
    x = features(16, 64)
    apart, together = (
        transformer(64)(x, 16, motion_scale=1.2),
        merged(transformer(64))(x, 16, motion_scale=1.2),
    )
    assert (together - apart).norm() / apart.norm() < 1e-6


def test_merged_projections_take_no_more_memory():
    module = transformer(64)
    before = sum(parameter.numel() for parameter in module.parameters())
    assert sum(parameter.numel() for parameter in merged(module).parameters()) == before


def test_the_features_are_left_as_they_were():
    module, x = transformer(64), features(8, 64)
    before = x.clone()
    module(x, 8)
    assert torch.equal(x, before)


def test_gradients_reach_every_weight_and_the_features():
    with torch.inference_mode(False), torch.enable_grad():
        module, x = transformer(64).requires_grad_(True), features(4, 64).requires_grad_(True)
        module(x, 4).square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in [x, *module.parameters()])


def test_splitting_the_feed_forward_changes_nothing(monkeypatch):
    module = transformer(64)
    x = features(16, 64, size=8)
    whole = module(x, 16)
    monkeypatch.setattr(temporal, "FEED_FORWARD_ELEMENTS", 20_000)
    assert torch.allclose(module(x, 16), whole, atol=1e-6)


def test_positions_are_the_sinusoid_at_any_length():
    assert (sinusoidal_positions(128, 320)[0] - reference.positions(128, 320)).abs().max() < 1e-5


def test_positions_are_not_saved_with_the_weights():
    assert not [key for key in transformer(64).state_dict() if "pos" in key]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_close_to_full(dtype):
    module = transformer(320)
    x = features(16, 320)
    exact = module(x, 16)
    rough = module.to(dtype)(x.to(dtype), 16).float()
    assert (rough - exact).norm() / exact.norm() < 1e-2


def test_features_of_thirty_thousand_do_not_overflow_in_half_precision():
    module = transformer(320)
    x = features(16, 320)
    x = (x / x.abs().max() * 30_000).half()
    exact = module(x.float(), 16)
    rough = module.half()(x, 16).float()
    assert rough.isfinite().all() and (rough - exact).norm() / exact.norm() < 1e-3


def test_more_sequences_than_a_kernel_takes_are_attended_to_in_parts(monkeypatch):
    q, k, v = torch.randn(3, 10, 4, 64, generator=torch.Generator().manual_seed(1))
    whole, lengths = temporal.attend(q, k, v, 1.0), []

    def attention(q, *arguments, **options):
        lengths.append(q.shape[0])
        return attention_pytorch(q, *arguments, **options)

    monkeypatch.setattr(temporal, "SEQUENCES", 4)
    monkeypatch.setattr(temporal, "attention_pytorch", attention)
    assert torch.allclose(temporal.attend(q, k, v, 1.0), whole, atol=1e-6) and lengths == [4, 4, 2]


def test_pieces_of_the_feed_forward_share_one_cast_of_its_weights(monkeypatch):
    module, x = transformer(64).half(), features(16, 64, size=8)
    kernels = [costs_of(lambda: module(x, 16)).kernels]
    monkeypatch.setattr(temporal, "FEED_FORWARD_ELEMENTS", 20_000)
    kernels.append(costs_of(lambda: module(x, 16)).kernels)
    assert len(kernels[1]) > len(kernels[0])
    casts = [sum(name in ("to", "_to_copy") for name in found) for found in kernels]
    assert casts[0] == casts[1] > 0


def test_memory_for_the_whole_feed_forward_lets_it_run_in_one_piece(monkeypatch):
    module, x = transformer(64), features(16, 64, size=8)
    whole = costs_of(lambda: module(x, 16)).kernels
    monkeypatch.setattr(temporal, "FEED_FORWARD_ELEMENTS", 20_000)
    assert costs_of(lambda: module(x, 16, elements=2**26)).kernels == whole


def test_positions_are_put_where_and_as_they_are_used_without_a_loss():
    module = transformer(64)
    for dtype in (torch.bfloat16, torch.float32):
        module.place_positions(torch.device("cpu"), dtype)
        assert torch.equal(module.positions, sinusoidal_positions(32, 64).to(dtype))


def test_fp16_weights_serve_a_bf16_model():
    module = transformer(64).half()
    x = features(4, 64).bfloat16()
    assert module(x, 4).dtype == torch.bfloat16


def test_channels_last_features_give_the_same_result():
    module = transformer(64)
    x = features(4, 64, size=4)
    assert torch.allclose(module(x.to(memory_format=torch.channels_last), 4), module(x, 4), atol=1e-6)
