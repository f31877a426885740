"""Correct before timing: the reference against an independent one, and the contenders against the reference."""

from __future__ import annotations

import pytest
import torch
from reference import temporal_transformer as plain_transformer  # tests/motion_modules

from fast_animatediff.benchmarks.compare import reference, weights
from fast_animatediff.benchmarks.compare.contender import Setting
from fast_animatediff.benchmarks.compare.host import MOTION_MODULE
from fast_animatediff.benchmarks.compare.worker import Worker
from fast_animatediff.tests.benchmarks.stand_in import SMALL


def test_the_references_motion_layer_is_the_one_written_out_pixel_by_pixel(folder):
    place = "down_blocks.0.motion_modules.0.temporal_transformer."
    held = weights.read(folder / MOTION_MODULE)
    here = {key.removeprefix(place): v.float() for key, v in held.items() if key.startswith(place)}
    x = torch.randn(3, 32, 2, 2, generator=torch.Generator().manual_seed(5))
    assert torch.allclose(reference.temporal_transformer(x, here, 3), plain_transformer(x, here), atol=1e-5)


def check(contender, folder, size, path):
    worker = Worker(Setting("ours", folder, folder, size))
    worker.contender = contender
    return worker.check(SMALL, path)


def test_our_unet_call_and_clip_are_the_references(our_contender, folder, size, expected):
    found = check(our_contender, folder, size, expected[1])
    assert found["error"] < 1e-5 and found["error_of_latents"] < 1e-4
    assert found["calls"] == "2 of 8 frames" and found["timesteps"] == [999.0, 499.0]


def test_diffusers_unet_call_and_clip_are_the_references_once_its_norm_is_per_frame(folder, size, expected):
    pytest.importorskip("diffusers")
    from fast_animatediff.benchmarks.compare.diffusers_pipeline import Diffusers

    contender = Diffusers(Setting("diffusers", folder, folder, size))
    found = check(contender, folder, size, expected[1])
    assert found["error"] < 1e-5 and found["error_of_latents"] < 1e-4
    assert found["calls"] == "2 of 8 frames"
    assert type(contender.motion_layers()[0][1].norm) is torch.nn.GroupNorm  # its own again, for the timing


def test_decoded_frames_are_the_same_in_diffusers(our_contender, folder, size):
    pytest.importorskip("diffusers")
    from fast_animatediff.benchmarks.compare.diffusers_pipeline import Diffusers

    latents = torch.randn(SMALL.latent_shape, generator=torch.Generator().manual_seed(6))
    theirs = Diffusers(Setting("diffusers", folder, folder, size)).decode(
        latents * our_contender.latent_scale
    )
    assert torch.allclose(our_contender.decode(latents), theirs, atol=1e-4)
