"""The same weights for everyone: as files, in our module, in diffusers."""

from __future__ import annotations

import pytest
import torch

import comfy.utils
from fast_animatediff.benchmarks.compare import host, jobs, weights
from fast_animatediff.motion_modules.checkpoint import read_motion_module
from fast_animatediff.motion_modules.schedule import sigmas_table
from fast_animatediff.tests.benchmarks.stand_in import SMALL


@pytest.fixture(scope="module")
def checkpoint(folder):
    return weights.read(folder / host.CHECKPOINT)


@pytest.fixture(scope="module")
def motion(folder):
    return weights.read(folder / host.MOTION_MODULE)


def test_a_weight_depends_on_its_name_and_shape_only(checkpoint):
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert torch.equal(checkpoint[key], weights.random_tensor(key, checkpoint[key].shape))


def test_no_layer_is_silent(checkpoint, motion):
    for key, value in (checkpoint | motion).items():
        assert value.float().std() > 1e-3 or value.numel() == 1, key


def test_existing_weights_are_kept_and_older_ones_replaced(folder, size, tmp_path, monkeypatch):
    written = (folder / host.CHECKPOINT).stat().st_mtime_ns
    weights.make_weights(folder, size)
    assert (folder / host.CHECKPOINT).stat().st_mtime_ns == written
    monkeypatch.setattr(weights, "RECIPE", "another")
    assert not weights.is_made(folder / host.CHECKPOINT)


def test_the_motion_module_is_read_by_us_as_a_v2_with_every_weight(folder, motion):
    config, ours = read_motion_module(str(folder / host.MOTION_MODULE))
    assert config.family.name == "AnimateDiff v2" and config.positions == 32
    tables = {key for key in motion if key.endswith(".pe")}
    assert ours.keys() == motion.keys() - tables
    assert all(torch.equal(ours[key], motion[key]) for key in ours)


def test_every_unet_weight_reaches_diffusers_under_the_name_that_the_host_gives_it(size, checkpoint):
    diffusers_pipeline = pytest.importorskip("fast_animatediff.benchmarks.compare.diffusers_pipeline")
    converted = diffusers_pipeline.unet_weights(checkpoint)
    names = comfy.utils.unet_to_diffusers(host.unet_config(size))
    held = [key for key in checkpoint if key.startswith(host.UNET_PREFIX)]
    assert len(converted) == len(held)
    for key, value in converted.items():
        assert torch.equal(value, checkpoint[host.UNET_PREFIX + names[key]]), key


def test_every_motion_weight_reaches_diffusers(size, motion):
    diffusers_pipeline = pytest.importorskip("fast_animatediff.benchmarks.compare.diffusers_pipeline")
    converted = diffusers_pipeline.motion_weights(motion)
    assert len(converted) == len(motion) - len(weights.motion_places(size))  # one table for two attentions
    values = {value.double().sum().item() for value in motion.values()}
    assert {value.double().sum().item() for value in converted.values()} == values


def test_noise_levels_and_timesteps_are_those_that_the_pack_uses():
    assert torch.allclose(jobs.train_sigmas(), sigmas_table("sqrt_linear").float(), rtol=1e-4)
    assert jobs.trailing_timesteps(8) == [999, 874, 749, 624, 499, 374, 249, 124]
    assert jobs.noise(SMALL).shape == (4, 4, 8, 8)
