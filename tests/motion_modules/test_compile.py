"""The host's compile node on a model with a motion module: changed settings must count, whatever was compiled before."""

from __future__ import annotations

import logging

import components
import pytest
import torch

from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.sampling import SamplerSettings, sample

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def forget_graphs(caplog):
    # pytest would format the tracer's hundred thousand debug lines
    caplog.set_level(logging.WARNING, "torch.__trace")
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(model):
    """As TorchCompileModel does it, with the backend that leaves the traced graph as it is."""
    model = model.clone(disable_dynamic=True)
    options = {"guard_filter_fn": skip_torch_compile_dict}
    set_torch_compile_wrapper(model=model, backend="eager", options=options)
    return model


def render(model, frames=3, **settings):
    latent = {"samples": torch.zeros(frames, 4, 8, 8)}
    settings = SamplerSettings(**({"seed": 1, "steps": 1, "cfg": 3.0} | settings))
    conditions = components.conditioning(3), components.conditioning(5)
    with torch.inference_mode():
        return sample(model, *conditions, latent, settings)["samples"]


def largest_difference(model, other, **settings):
    return (render(model, **settings) - render(other, **settings)).abs().max().item()


@pytest.mark.parametrize("family", [families.V1, families.V2])
def test_a_compiled_model_renders_what_it_renders_uncompiled(family):
    applied = apply_motion_module(components.sd15_model(), components.motion_module(family))
    fast = compiled(applied)
    for _ in range(2):
        assert largest_difference(fast, applied) < 1e-4


def test_other_frames_and_other_cfg_count_after_compiling():
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    fast = compiled(applied)
    for frames, cfg in [(2, 1.0), (4, 1.0), (2, 2.0), (3, 2.0)]:
        assert largest_difference(fast, applied, frames=frames, cfg=cfg) < 1e-4, (frames, cfg)


def test_another_strength_and_motion_scale_count_after_compiling():
    base, module = components.sd15_model(), components.motion_module()
    for settings in ({"strength": 1.0}, {"strength": 0.3}, {"motion_scale": 1.4}):
        applied = apply_motion_module(base, module, **settings)
        assert largest_difference(compiled(applied), applied) < 1e-4, settings
