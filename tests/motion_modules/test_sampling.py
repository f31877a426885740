from __future__ import annotations

import itertools
import logging

import components
import pytest
import torch
from diffusers import EulerDiscreteScheduler

import comfy.sample
import comfy.samplers
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.adapter import KEY, MotionState, apply_motion_module
from fast_animatediff.motion_modules.motion_settings import MotionSettings
from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
from fast_animatediff.motion_modules.sampling import make_sigmas, sample, with_sampling_for
from fast_animatediff.motion_modules.schedule import LcmSampling

FRAMES = 3


class Run:
    """Samples a clip and keeps, for each UNet call, its timestep and how many conditions it held."""

    def __init__(self, model, latent=None, **settings):
        self.timesteps, self.conditions = [], []
        watched = model.clone()
        watched.add_wrapper("diffusion_model", self.remember)
        self.latent = {"samples": torch.zeros(FRAMES, 4, 8, 8)} if latent is None else latent
        settings = {"seed": 1, "steps": 4, "cfg": 3.0} | settings
        self.result = sample(
            watched,
            components.conditioning(3),
            components.conditioning(5),
            self.latent,
            SamplerSettings(**settings),
        )
        self.samples = self.result["samples"]

    def remember(self, executor, x, timesteps, context, y, control, options, **kwargs):
        self.timesteps.append(int(timesteps[0]))
        self.conditions.append(len(options["cond_or_uncond"]))
        return executor(x, timesteps, context, y, control, options, **kwargs)


def applied(family=families.V2, **options):
    return apply_motion_module(
        components.sd15_model(), components.motion_module(family), MotionSettings(**options)
    )


def video_latent(seed=9):
    return {"samples": torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(seed))}


def test_video_to_video_at_the_services_defaults_makes_17_calls_from_timestep_666():
    run = Run(applied(), video_latent(), steps=25, cfg=7.5, strength=0.7)
    assert len(run.timesteps) == 17 and run.timesteps[0] == 666


def test_auto_takes_each_familys_steps():
    assert Run(applied(families.V2), steps=4).timesteps == [999, 666, 333, 0]
    assert Run(applied(families.lightning(4)), steps=4, cfg=1.0).timesteps == [999, 749, 499, 249]
    expected = [999, 879, 749, 629, 499, 379, 249, 129]
    assert Run(applied(families.ANIMATE_LCM), steps=8, cfg=2.0).timesteps == expected


def test_lcm_mode_on_an_ordinary_module_uses_lcm_loras_50_steps():
    assert Run(applied(families.V2), steps=4, cfg=1.0, mode="lcm").timesteps == [999, 759, 499, 259]


def test_lcm_mode_keeps_a_consistency_table_that_the_user_chose():
    model = applied(families.ANIMATE_LCM, beta_schedule="lcm 50 linear (AnimateDiff-Evolved)")
    assert Run(model, steps=4, cfg=1.0).timesteps == [999, 759, 499, 259]


def test_auto_follows_the_schedule_that_the_user_chose_on_apply():
    model = applied(families.V2, beta_schedule="lcm 50 (LCM-LoRA)")
    assert Run(model, steps=4, cfg=1.0).timesteps == [999, 759, 499, 259]
    model = applied(families.ANIMATE_LCM, beta_schedule="sqrt_linear (AnimateDiff)")
    assert Run(model, steps=4).timesteps == [999, 666, 333, 0]


def test_a_schedule_without_timesteps_asks_for_another_scheduler():
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    (model,) = ModelSamplingContinuousEDM().patch(applied(), "eps", 120.0, 0.002)
    with pytest.raises(ValueError, match="Scheduler linspace needs a schedule with timesteps.*karras"):
        Run(model)


def test_standard_mode_on_a_consistency_module_leaves_its_table():
    model = with_sampling_for(applied(families.ANIMATE_LCM), "standard")
    sampling = model.get_model_object("model_sampling")
    assert not isinstance(sampling, LcmSampling) and len(sampling.sigmas) == 1000
    assert sampling.sigma_max.item() == pytest.approx(25.146, abs=1e-3)


def test_a_consistency_table_from_cores_node_is_kept():
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(applied(families.V2), "lcm", zsnr=False)
    assert with_sampling_for(model, "lcm") is model
    assert Run(model, steps=4, cfg=1.0, mode="lcm", scheduler="simple").timesteps == [999, 759, 499, 259]


@pytest.mark.parametrize("family", [families.V2, families.lightning(4)])
def test_auto_follows_a_consistency_table_from_cores_node(family, caplog):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(applied(family), "lcm", zsnr=False)
    with caplog.at_level(logging.INFO):
        assert Run(model, steps=4, cfg=1.0).timesteps == [999, 759, 499, 259]
    assert "4 of 4 steps, mode lcm, sampler lcm, scheduler lcm" in caplog.text


def test_lcm_mode_is_refused_on_models_without_a_table_for_it():
    from comfy_extras import nodes_model_advanced as core

    edm, discrete = core.ModelSamplingContinuousEDM(), core.ModelSamplingDiscrete()
    for patched, message in (
        (edm.patch(applied(), "eps", 120.0, 0.002), "Mode lcm needs a schedule with timesteps"),
        (
            core.ModelSamplingSD3().patch(applied(), 3.0),
            "Mode lcm needs .*ModelSamplingDiscreteFlow with CONST",
        ),
        (core.ModelSamplingStableCascade().patch(applied(), 2.0), "Mode lcm needs"),
        (discrete.patch(applied(), "x0", False), "predicts the clean latent"),
        (discrete.patch(applied(), "v_prediction", True), "predicts velocity"),
        (discrete.patch(applied(), "img_to_img", False), "eps, v_prediction, x0"),
    ):
        with pytest.raises(ValueError, match=message):
            Run(patched[0], cfg=1.0, mode="lcm")


@pytest.mark.parametrize("prediction", ["eps", "v_prediction", "x0"])
@pytest.mark.parametrize("zsnr", [False, True])
def test_a_prediction_set_before_apply_is_sampled_with_the_modules_schedule(prediction, zsnr):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(components.sd15_model(), prediction, zsnr=zsnr)
    model = apply_motion_module(model, components.motion_module())
    highest = model.get_model_object("model_sampling").sigma_max.item()
    assert highest == pytest.approx(4518.0, rel=1e-3) if zsnr else highest == pytest.approx(25.146, rel=1e-3)
    run = Run(model, steps=3)
    assert run.timesteps == [999, 500, 0] and torch.isfinite(run.samples).all()


@pytest.mark.parametrize("sampler_name", ["euler", "dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"])
def test_noise_levels_are_those_of_ksampler(sampler_name):
    model = applied()
    for scheduler, steps in itertools.product(comfy.samplers.SCHEDULER_NAMES, (1, 2, 7)):
        host = comfy.samplers.KSampler(model, steps, torch.device("cpu"), sampler_name, scheduler)
        if torch.isfinite(host.sigmas).all():  # else it is refused, see test_sampling_run
            found = make_sigmas(model, scheduler, steps, sampler_name)
            assert torch.equal(found, host.sigmas), (scheduler, steps)


@pytest.mark.parametrize("scheduler", ["linspace", "trailing", "lcm"])
def test_our_schedulers_take_the_steps_asked_for_with_every_sampler(scheduler):
    model = applied()
    for sampler_name in comfy.samplers.SAMPLER_NAMES:
        sigmas = make_sigmas(model, scheduler, 4, sampler_name)
        assert len(sigmas) == 5 and sigmas[-1] == 0 and (sigmas.diff() < 0).all(), sampler_name


def test_without_a_motion_module_it_samples_the_image_model():
    assert Run(components.sd15_model(), steps=4).timesteps == [999, 666, 333, 0]


def test_cfg_1_runs_the_conditional_half_only():
    assert set(Run(applied(), cfg=1.0).conditions) == {1}
    assert set(Run(applied(), cfg=3.0).conditions) == {2}


@pytest.mark.parametrize(("cfg_until", "guided"), [(0.0, 0), (0.5, 4), (0.75, 6), (1.0, 8)])
def test_cfg_until_is_the_part_of_the_steps_that_use_guidance(cfg_until, guided):
    run = Run(applied(), steps=8, cfg_until=cfg_until)
    assert run.conditions == [2] * guided + [1] * (8 - guided)


def test_cfg_until_counts_the_steps_that_run():
    run = Run(applied(), video_latent(), steps=20, strength=0.5, cfg_until=0.4)
    assert run.conditions == [2] * 4 + [1] * 6


def test_less_strength_stays_closer_to_the_video():
    latent = video_latent()
    distances = [
        (Run(applied(), latent, steps=10, strength=strength).samples - latent["samples"]).norm().item()
        for strength in (0.1, 0.3, 0.6, 0.9)
    ]
    assert distances == sorted(distances)


def test_the_same_seed_gives_the_same_clip_and_another_another():
    first, again, other = Run(applied()), Run(applied()), Run(applied(), seed=2)
    assert torch.equal(first.samples, again.samples) and not torch.allclose(first.samples, other.samples)


def test_the_input_latent_is_not_changed():
    latent = video_latent()
    before = latent["samples"].clone()
    Run(applied(), latent, strength=0.5)
    assert torch.equal(latent["samples"], before)


def reference_run(model, scheduler, steps, noise, conditions, cfg):
    """The diffusers loop around the same UNet: its scheduler, its cfg, no host sampler.

    The start is the host's (variance-preserving noise, as in DDIM); under trailing diffusers leaves the + 1 out.
    """
    scheduler.set_timesteps(steps)
    x = noise * (scheduler.init_noise_sigma**2 + 1) ** 0.5
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        options = {"cond_or_uncond": [0]}
        cond, uncond = (
            model(scaled, t.float().expand(FRAMES), c.expand(FRAMES, -1, -1), options) for c in conditions
        )
        x = scheduler.step(uncond + cfg * (cond - uncond), t, x).prev_sample
    return x


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_lightning_samples_as_diffusers_euler_trailing(steps):
    model = applied(families.lightning(steps))
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", timestep_spacing="trailing"
    )
    latent = {"samples": torch.zeros(FRAMES, 4, 8, 8)}
    noise = comfy.sample.prepare_noise(latent["samples"], 1)
    conditions = [components.conditioning(seed)[0][0] for seed in (3, 5)]

    motion = model.get_additional_models_with_key(KEY)[0].model

    def predict(x, t, context, options):
        state = MotionState(motion, 1.0, 1.0, range(FRAMES))
        options = options | model.model_options["transformer_options"] | {KEY: state}
        return model.model.diffusion_model(x, timesteps=t, context=context, transformer_options=options)

    expected = reference_run(predict, scheduler, steps, noise, conditions, cfg=2.0)
    result = Run(model, latent, steps=steps, cfg=2.0).samples * 0.18215
    assert (result - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("sampler_name", ["ddim", "dpmpp_2m", "euler_ancestral", "uni_pc"])
@pytest.mark.parametrize("scheduler", ["auto", "karras", "sgm_uniform"])
def test_the_hosts_samplers_and_schedulers_work(sampler_name, scheduler):
    run = Run(applied(), sampler_name=sampler_name, scheduler=scheduler, steps=4, cfg=1.0)
    assert torch.isfinite(run.samples).all()


def test_a_noise_mask_protects_its_part():
    latent = video_latent() | {"noise_mask": torch.zeros(FRAMES, 8, 8)}
    latent["noise_mask"][:, :, 4:] = 1.0
    run = Run(applied(), latent, strength=0.5)
    assert torch.allclose(run.samples[..., :4], latent["samples"][..., :4], atol=1e-4)
    assert not torch.allclose(run.samples[..., 4:], latent["samples"][..., 4:], atol=1e-2)


def test_zero_frames_are_an_error():
    with pytest.raises(ValueError, match="The latent has no frames"):
        Run(applied(), {"samples": torch.zeros(0, 4, 8, 8)})


def test_a_video_models_latent_is_refused_with_the_node_to_use():
    with pytest.raises(ValueError, match=r"5 dimensions \(1, 4, 5, 8, 8\).*Empty Video Latent"):
        Run(applied(), {"samples": torch.zeros(1, 4, 5, 8, 8)})


def test_nan_in_the_latent_is_an_error():
    latent = video_latent()
    latent["samples"][1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="The latent holds NaN"):
        Run(applied(), latent, strength=0.5)


def test_nan_from_the_model_names_the_first_bad_frame():
    model = components.sd15_model()
    model.model.diffusion_model.out[2].bias.data[0] = float("nan")
    broken = apply_motion_module(model, components.motion_module())
    with pytest.raises(ValueError, match="NaN or infinite values in 3 of 3 frames, the first is 0"):
        Run(broken)


def test_core_ksampler_and_guiders_sample_the_same_model():
    model = applied()
    settings = (
        "euler",
        "simple",
        components.conditioning(3),
        components.conditioning(5),
        torch.zeros(FRAMES, 4, 8, 8),
    )
    assert torch.isfinite(
        comfy.sample.sample(model, components.noise(FRAMES), 2, 4.0, *settings, seed=1)
    ).all()
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    guider = Guider_DualCFG(model)
    guider.set_conds(components.conditioning(3), components.conditioning(4), components.conditioning(5))
    guider.set_cfg(3.0, 2.0)
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([25.0, 3.0, 0.0])
    samples = guider.sample(components.noise(FRAMES), torch.zeros(FRAMES, 4, 8, 8), sampler, sigmas, seed=1)
    assert torch.isfinite(samples).all()


def test_patches_on_cfg_are_called_as_often_as_without_motion():
    counts = []
    for model in (components.sd15_model(), applied()):
        calls = []
        model = model.clone()
        model.set_model_sampler_pre_cfg_function(
            lambda args, calls=calls: calls.append(1) or args["conds_out"]
        )
        Run(model, steps=3)
        counts.append(len(calls))
    assert counts == [3, 3]
