"""What the sampler warns of, and what no step means."""

from __future__ import annotations

import logging
import math

import components
import pytest
import torch
from test_sampling import Run, applied, video_latent

from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.adapter import apply_motion_module


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_where_no_step_runs_the_latent_comes_back_unchanged(strength):
    run = Run(applied(), video_latent(), steps=8, strength=strength)
    assert run.timesteps == [] and torch.equal(run.samples, run.latent["samples"])


@pytest.mark.parametrize(
    ("steps", "strength", "advice"),
    [
        (4, 0.2, "Use at least 5 steps, or strength 0.25"),
        (1, 0.99, "Use at least 2 steps, or strength 1."),
        (3, 0.3, "Use at least 4 steps, or strength 0.34"),
    ],
)
def test_where_no_step_runs_the_warning_says_what_would(caplog, steps, strength, advice):
    run = Run(applied(), video_latent(), steps=steps, strength=strength)
    assert run.timesteps == [] and f"at strength {strength} make less than one" in caplog.text
    assert advice in caplog.text


def test_the_advice_of_a_run_without_steps_makes_a_step():
    for steps in range(1, 101):
        assert int(steps * (math.ceil(100 / steps) / 100)) >= 1
    for percent in range(1, 100):
        strength = percent / 100
        assert int(math.ceil(1 / strength) * strength) >= 1


def test_strength_0_is_no_mistake_and_warns_of_nothing(caplog):
    Run(applied(), video_latent(), steps=8, strength=0.0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_empty_latent_at_less_than_full_strength_warns(caplog):
    Run(applied(), steps=4, strength=0.5)
    assert "The latent is empty" in caplog.text


def test_lightning_with_other_steps_than_distilled_for_warns(caplog):
    with caplog.at_level(logging.WARNING):
        Run(applied(families.lightning(4)), steps=8, cfg=1.0)
    assert "distilled for 4 steps, this run takes 8" in caplog.text


def warnings_of(caplog, model, latent=None, **settings):
    caplog.clear()
    Run(model, latent, **({"steps": 1, "cfg": 1.0} | settings))
    return "\n".join(record.message for record in caplog.records if record.levelno >= logging.WARNING)


def test_a_mode_that_the_module_was_not_made_for_warns(caplog):
    assert "not distilled for mode lightning" in warnings_of(caplog, applied(), mode="lightning")
    assert "not distilled for mode lcm" in warnings_of(caplog, applied(families.lightning(1)), mode="lcm")
    assert "Load LCM-LoRA" in warnings_of(caplog, applied(), mode="lcm")
    assert "Load AnimateLCM's LoRA" in warnings_of(caplog, applied(families.ANIMATE_LCM))
    with_lora = components.sd15_model()
    key = "diffusion_model.out.2.weight"
    with_lora.add_patches({key: (torch.zeros_like(with_lora.model.state_dict()[key]),)})
    with_lora = apply_motion_module(with_lora, components.motion_module(families.ANIMATE_LCM))
    assert warnings_of(caplog, with_lora) == ""
    assert warnings_of(caplog, applied(), steps=4, cfg=7.5) == ""


def test_several_frames_without_a_motion_module_warn(caplog):
    assert "no motion module" in warnings_of(caplog, components.sd15_model())
    still = {"samples": torch.zeros(1, 4, 8, 8)}
    assert warnings_of(caplog, components.sd15_model(), still) == ""


def test_turbo_with_high_cfg_warns(caplog):
    with caplog.at_level(logging.WARNING):
        Run(applied(families.ANIMATE_LCM), cfg=7.5)
    assert "cfg 7.5 is high for mode lcm" in caplog.text
