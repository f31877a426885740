"""What can be applied to what, and what a refusal says."""

from __future__ import annotations

import components
import pytest
from test_adapter import predict

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.motion_settings import MotionSettings
from fast_animatediff.motion_modules.schedule import VelocitySampling


def test_the_schedule_follows_the_family_unless_the_user_chose_one():
    model = components.sd15_model()
    assert model.get_model_object("model_sampling").sigma_max.item() == pytest.approx(14.615, abs=1e-3)
    for family, schedule, highest, entries in [
        (families.V2, "auto", 25.146, 1000),
        (families.ANIMATE_LCM, "auto", 25.146, 100),
        (families.V2, "linear (SD1.5)", 14.615, 1000),
        (families.V2, "lcm 50 (LCM-LoRA)", 25.146, 50),
        (families.ANIMATE_LCM, "lcm 50 linear (AnimateDiff-Evolved)", 14.615, 50),
    ]:
        applied = apply_motion_module(
            model, components.motion_module(family), MotionSettings(beta_schedule=schedule)
        )
        sampling = applied.get_model_object("model_sampling")
        assert (
            sampling.sigma_max.item() == pytest.approx(highest, abs=1e-3) and len(sampling.sigmas) == entries
        )


def test_a_second_motion_module_is_refused():
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    with pytest.raises(ValueError, match=r"has a motion module already \(test.safetensors\)"):
        apply_motion_module(applied, components.motion_module())


def test_a_module_of_another_width_is_refused_with_both_widths():
    module = components.motion_module(channels=(320, 640, 1280, 1280)[:1] + (64, 128, 128))
    with pytest.raises(ValueError, match=r"channels \(320, 64, 128, 128\).*SD15 with \(32, 64, 128, 128\)"):
        apply_motion_module(components.sd15_model(), module)


def test_a_velocity_model_keeps_its_prediction():
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(components.sd15_model(), "v_prediction", zsnr=False)
    applied = apply_motion_module(model, components.motion_module())
    assert isinstance(applied.get_model_object("model_sampling"), VelocitySampling)
    with pytest.raises(ValueError, match="predicts velocity"):
        apply_motion_module(model, components.motion_module(families.ANIMATE_LCM))


def test_a_schedule_set_before_is_replaced_with_a_warning(caplog):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(components.sd15_model(), "lcm", zsnr=False)
    apply_motion_module(model, components.motion_module())
    assert "schedule set before Apply Motion Module is replaced" in caplog.text


def test_a_distilled_unet_is_told_apart():
    model = components.sd15_model()
    model.model.model_config.unet_config["num_res_blocks"] = [1, 1, 1, 1]
    with pytest.raises(ValueError, match="needs a UNet with two residual blocks a level"):
        apply_motion_module(model, components.motion_module())


@pytest.mark.parametrize("kind", ["SD20", "SDXL"])
def test_a_model_of_another_kind_is_named(kind):
    model = components.sd15_model()
    model.model.model_config = getattr(comfy.supported_models, kind)(components.sd15_config())
    with pytest.raises(
        ValueError, match=f"test.safetensors needs an SD1.5 checkpoint, but this model is {kind}"
    ):
        apply_motion_module(model, components.motion_module())


def test_more_frames_than_positions_in_one_window_say_what_to_do():
    applied = apply_motion_module(components.sd15_model(), components.motion_module(families.V1))
    with pytest.raises(ValueError, match="at most 24 frames, this window has 25.*context_length to 16"):
        predict(applied, components.noise(25))
