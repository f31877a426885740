"""Windows in the motion layers alone."""

from __future__ import annotations

import copy

import components
import pytest
import torch
from test_windows import SCHEDULES, run

from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.layer_windows import in_windows, make_windows
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

WHERE = torch.device("cpu"), torch.float32


@pytest.fixture(scope="module")
def applied():
    return apply_motion_module(components.sd15_model(), components.motion_module())


def windowed(model, length, overlap, **settings):
    return set_windows(
        model, make_windows(WindowSettings(length, overlap, motion_layers_only=True, **settings))
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("frames", [17, 40])
def test_each_frame_has_a_weight_in_windows_of_the_length_asked_for(frames, schedule):
    handler = make_windows(WindowSettings(16, 4, schedule, motion_layers_only=True))
    windows = handler.layer_windows(frames, *WHERE)
    assert {i for window in windows for i in window.frames} == set(range(frames))
    assert all(len(w.frames) == len(w.weights) == 16 or schedule == "batched" for w in windows)
    assert all(weight > 0 for window in windows for weight in window.weights)
    assert handler.layer_windows(16, *WHERE) == ()


def test_the_image_model_sees_the_clip_in_one_piece(applied):
    _, lengths = run(windowed(applied, 8, 2), frames=20)
    assert lengths == {20}
    _, lengths = run(set_windows(applied, make_windows(WindowSettings(8, 2))), frames=20)
    assert lengths == {8}


def test_a_clip_that_fits_into_one_window_is_as_without_windows(applied):
    expected, _ = run(applied, frames=8)
    assert torch.equal(run(windowed(applied, 8, 2), frames=8)[0], expected)


def test_longer_clips_than_the_module_has_positions_are_rendered_and_windows_count(applied):
    samples, _ = run(windowed(applied, 16, 4), frames=40)
    assert samples.isfinite().all()
    assert not torch.allclose(samples, run(windowed(applied, 16, 8), frames=40)[0], atol=1e-3)


def test_windows_side_by_side_are_clips_by_themselves(applied):
    """In a motion layer; and where they overlap, a frame is the weighted mean of what its windows make of it."""
    transformer = components.motion_module().model.at(("input", 1))
    x = torch.randn(2 * 6, transformer.norm.num_channels, 4, 4, generator=torch.Generator().manual_seed(1))
    clips = x.unflatten(0, (2, 6))

    def alone(first, last):
        return transformer(clips[:, first:last].flatten(0, 1), last - first, 1.0, 1.0).unflatten(0, (2, -1))

    with torch.inference_mode():
        batched = make_windows(WindowSettings(3, 0, "batched", motion_layers_only=True)).layer_windows(
            6, *WHERE
        )
        found = in_windows(transformer, x, 6, batched, 1.0, 1.0).unflatten(0, (2, 6))
        expected = torch.cat([alone(0, 3), alone(3, 6)], dim=1)
        assert (found - expected).norm() / expected.norm() < 1e-6
        overlapping = make_windows(WindowSettings(4, 2, motion_layers_only=True)).layer_windows(6, *WHERE)
        found = in_windows(transformer, x, 6, overlapping, 1.0, 1.0).unflatten(0, (2, 6))
        both = alone(0, 4)[:, 2:] * torch.tensor([2.0, 1.0]).view(-1, 1, 1, 1)
        both = both + alone(2, 6)[:, :2] * torch.tensor([1.0, 2.0]).view(-1, 1, 1, 1)
        assert (found[:, 2:4] - both / 3).norm() / both.norm() < 1e-6


def test_windows_are_made_once_a_run():
    handler = make_windows(WindowSettings(8, 2, motion_layers_only=True))
    windows = handler.layer_windows(20, *WHERE)
    assert handler.layer_windows(20, *WHERE) is windows
    assert type(handler).for_run(handler).layer_windows(20, *WHERE) is not windows


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("schedule", ["standard_static", "looped_uniform"])
def test_large_features_pass_through_windows_that_add_nothing(schedule, dtype):
    """9,000 in each of eight overlapping windows, summed, would be infinite in fp16."""
    transformer = copy.deepcopy(components.motion_module().model.at(("input", 1))).to(dtype)
    torch.nn.init.zeros_(transformer.proj_out.weight), torch.nn.init.zeros_(transformer.proj_out.bias)
    settings = WindowSettings(
        8, 6, schedule, closed_loop=schedule == "looped_uniform", motion_layers_only=True
    )
    windows = make_windows(settings).layer_windows(20, WHERE[0], dtype)
    assert (schedule == "looped_uniform") == any(window.index is not None for window in windows)
    x = torch.randn(20, transformer.norm.num_channels, 2, 2, generator=torch.Generator().manual_seed(1))
    x = (x + 9000).to(dtype)
    with torch.inference_mode():
        assert torch.equal(in_windows(transformer, x, 20, windows, 1.0, 1.0), x)


def test_windows_longer_than_the_module_holds_are_refused(applied):
    with pytest.raises(ValueError, match="attends to at most"):
        run(windowed(applied, 40, 4), frames=48)


def test_freenoise_shuffles_the_first_windows_noise_here_too(applied):
    plain, _ = run(windowed(applied, 8, 2), frames=20)
    shuffled, _ = run(windowed(applied, 8, 2, freenoise=True), frames=20)
    assert torch.isfinite(shuffled).all() and not torch.allclose(plain, shuffled, atol=1e-3)
