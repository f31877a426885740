"""Noise levels and timesteps against diffusers' schedulers and tables written down from them."""

from __future__ import annotations

import components
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, LCMScheduler

import comfy.samplers
from fast_animatediff.motion_modules.schedule import (
    EpsSampling,
    LcmSampling,
    VelocitySampling,
    last_steps,
    lcm_timesteps,
    linspace_timesteps,
    make_sampling,
    sampling_like,
    sigmas_at,
    sigmas_table,
    trailing_timesteps,
)

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}


def visited(sampling, sigmas):
    """The timesteps that a model is called at, as the host looks them up from the noise levels."""
    return [int(t) for t in sampling.timestep(sigmas[:-1])]


@pytest.mark.parametrize(
    ("name", "highest", "middle"), [("sqrt_linear", 25.146, 4.496), ("linear", 14.615, 2.918)]
)
def test_noise_levels_of_the_beta_schedules(name, highest, middle):
    table = sigmas_table(name)
    assert table[-1].item() == pytest.approx(highest, abs=1e-3)
    assert table[666].item() == pytest.approx(middle, abs=1e-3)
    assert table[0].item() == pytest.approx(0.02917, abs=1e-5)


def test_sqrt_linear_is_diffusers_linear():
    alphas = DDIMScheduler(**BETAS).alphas_cumprod
    assert torch.allclose(sigmas_table("sqrt_linear"), ((1 - alphas) / alphas) ** 0.5, rtol=1e-4)


def test_an_unknown_beta_schedule_is_named():
    with pytest.raises(ValueError, match="'cosine'.*'sqrt_linear'"):
        sigmas_table("cosine")


@pytest.mark.parametrize("steps", [2, 8, 20, 25, 30, 50])
def test_linspace_visits_diffusers_ddim_timesteps(steps):
    scheduler = DDIMScheduler(**BETAS, timestep_spacing="linspace", clip_sample=False, steps_offset=1)
    scheduler.set_timesteps(steps)
    sampling = EpsSampling(sigmas_table("sqrt_linear"))
    assert visited(sampling, sigmas_at(sampling, linspace_timesteps(steps))) == scheduler.timesteps.tolist()


def test_25_steps_at_strength_0_7_are_17_calls_from_timestep_666():
    sampling = EpsSampling(sigmas_table("sqrt_linear"))
    sigmas = last_steps(sigmas_at(sampling, linspace_timesteps(25)), 0.7)
    timesteps = visited(sampling, sigmas)
    assert len(timesteps) == 17 and timesteps[0] == 666 and timesteps[-1] == 0


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, [999]), (2, [999, 499]), (4, [999, 749, 499, 249]), (8, [999, 874, 749, 624, 499, 374, 249, 124])],
)
def test_trailing_visits_lightnings_timesteps(steps, expected):
    scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    sampling = EpsSampling(sigmas_table("sqrt_linear"))
    sigmas = sigmas_at(sampling, trailing_timesteps(steps))
    assert visited(sampling, sigmas) == expected == scheduler.timesteps.int().tolist()
    assert torch.allclose(sigmas, scheduler.sigmas.float(), rtol=1e-4)


@pytest.mark.parametrize("original_steps", [50, 100])
@pytest.mark.parametrize("steps", [4, 6, 8, 12])
def test_lcm_visits_diffusers_timesteps(steps, original_steps):
    scheduler = LCMScheduler(**BETAS, original_inference_steps=original_steps)
    scheduler.set_timesteps(steps)
    sampling = LcmSampling(sigmas_table("sqrt_linear"), original_steps)
    timesteps = visited(sampling, sigmas_at(sampling, lcm_timesteps(steps, original_steps)))
    assert timesteps == scheduler.timesteps.tolist()


def test_lcm_timesteps_as_published():
    assert lcm_timesteps(8, 100).tolist() == [999, 879, 749, 629, 499, 379, 249, 129]
    assert lcm_timesteps(8, 50).tolist() == [999, 879, 759, 639, 499, 379, 259, 139]
    assert lcm_timesteps(4, 50).tolist() == [999, 759, 499, 259]
    assert lcm_timesteps(6, 100).tolist() == [999, 839, 669, 499, 339, 169]


@pytest.mark.parametrize(
    ("steps", "expected"), [(12, [679, 599, 499, 419, 339, 259, 179, 99]), (8, [639, 499, 379, 259, 139])]
)
def test_lcm_at_strength_0_7_runs_diffusers_last_steps(steps, expected):
    sampling = LcmSampling(sigmas_table("sqrt_linear"), 50)
    assert visited(sampling, last_steps(sigmas_at(sampling, lcm_timesteps(steps, 50)), 0.7)) == expected


def test_more_lcm_steps_than_the_table_has_is_an_error():
    with pytest.raises(ValueError, match="60 steps are more than the 50"):
        lcm_timesteps(60, 50)


@pytest.mark.parametrize("original_steps", [50, 100])
def test_lcm_denoises_as_diffusers(original_steps):
    scheduler = LCMScheduler(**BETAS, original_inference_steps=original_steps, clip_sample=False)
    scheduler.set_timesteps(4)
    sampling = LcmSampling(sigmas_table("sqrt_linear"), original_steps)
    generator = torch.Generator().manual_seed(0)
    for t in scheduler.timesteps:
        preserving, prediction = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
        expected = scheduler.step(prediction, t, preserving).denoised
        sigma = sampling.sigma(t).expand(2)
        exploding = preserving * (sigma[0] ** 2 + 1) ** 0.5
        assert torch.allclose(sampling.calculate_denoised(sigma, prediction, exploding), expected, atol=2e-5)


def test_lcm_table_keeps_every_tenth_level_of_a_hundred():
    table = sigmas_table("sqrt_linear")
    sampling = LcmSampling(table, 100)
    assert torch.equal(sampling.sigmas, table[9::10])
    assert sampling.sigma_max == table[-1] and sampling.sigma_min.item() == pytest.approx(0.09512, abs=1e-5)


@pytest.mark.parametrize("lcm_steps", [None, 50, 100])
def test_sampling_objects_register_no_buffers_and_follow_sigmas_device(lcm_steps):
    sampling = make_sampling(sigmas_table("sqrt_linear"), lcm_steps)
    assert not list(sampling.named_buffers()) and not list(sampling.parameters())
    assert sampling.timestep(sampling.sigma_max.view(1)).tolist() == [999]


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
@pytest.mark.parametrize("lcm_steps", [None, 100])
def test_the_hosts_schedulers_work_on_our_tables(scheduler, lcm_steps):
    sigmas = comfy.samplers.calculate_sigmas(
        make_sampling(sigmas_table("sqrt_linear"), lcm_steps), scheduler, 8
    )
    assert sigmas[-1] == 0 and (sigmas.diff() < 0).all() and torch.isfinite(sigmas).all()


def of_the_host(prediction, zsnr=False):
    """The sampling object that core's ModelSamplingDiscrete node makes."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(components.sd15_model(), prediction, zsnr=zsnr)
    return model.get_model_object("model_sampling")


@pytest.mark.parametrize("zsnr", [False, True])
@pytest.mark.parametrize("prediction", ["eps", "v_prediction", "x0"])
def test_a_models_prediction_and_zero_snr_are_kept(prediction, zsnr):
    host = of_the_host(prediction, zsnr)
    ours = sampling_like(host, "linear", None)
    assert torch.allclose(ours.sigmas, host.sigmas, rtol=1e-3) and ours.zsnr == zsnr
    output, x = components.noise(2, seed=1), components.noise(2, seed=2)
    sigma = host.sigmas[[300, 900]]
    assert torch.equal(ours.calculate_denoised(sigma, output, x), host.calculate_denoised(sigma, output, x))
    assert torch.equal(ours.calculate_input(sigma, x), host.calculate_input(sigma, x))


def test_the_lcm_schedule_keeps_noise_prediction_only():
    assert isinstance(sampling_like(of_the_host("lcm"), "linear", 50), LcmSampling)
    assert isinstance(sampling_like(of_the_host("lcm"), "linear", None), EpsSampling)
    for prediction, name in (("v_prediction", "velocity"), ("x0", "clean latent")):
        with pytest.raises(ValueError, match=f"predicts .*{name}.*lcm sampling needs .*noise"):
            sampling_like(of_the_host(prediction), "linear", 50)


@pytest.mark.parametrize("prediction", ["img_to_img", "img_to_img_flow"])
def test_image_to_image_predictions_are_refused(prediction):
    with pytest.raises(ValueError, match="eps, v_prediction, x0.*Remove the ModelSampling node"):
        sampling_like(of_the_host(prediction), "linear", None)


@pytest.mark.parametrize("lcm_steps", [None, 100])
def test_flow_and_edm_predictions_are_refused(lcm_steps):
    from comfy_extras import nodes_model_advanced as core

    model = components.sd15_model()
    edm = core.ModelSamplingContinuousEDM()
    for patched in (
        core.ModelSamplingSD3().patch(model, 3.0),
        core.ModelSamplingFlux().patch(model, 1.15, 0.5, 512, 512),
        edm.patch(model, "edm", 120.0, 0.002),
        edm.patch(model, "edm_playground_v2.5", 120.0, 0.002),
        edm.patch(model, "cosmos_rflow", 120.0, 0.002),
    ):
        with pytest.raises(ValueError, match="Motion modules need a model that predicts noise"):
            sampling_like(patched[0].get_model_object("model_sampling"), "linear", lcm_steps)
    (continuous,) = edm.patch(model, "v_prediction", 120.0, 0.002)
    assert isinstance(
        sampling_like(continuous.get_model_object("model_sampling"), "linear", None), VelocitySampling
    )


@pytest.mark.parametrize(("strength", "steps"), [(0.0, 0), (0.03, 0), (0.5, 12), (0.7, 17), (1.0, 25)])
def test_strength_runs_the_whole_part_of_the_steps(strength, steps):
    assert len(last_steps(torch.linspace(10, 0, 26), strength)) == steps + 1
