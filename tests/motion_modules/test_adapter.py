from __future__ import annotations

import comfy_aimdo.control
import components
import pytest
import torch

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.adapter import KEY, apply_motion_module
from fast_animatediff.motion_modules.checkpoint import load_motion_module
from fast_animatediff.motion_modules.lora import load_motion_lora
from fast_animatediff.motion_modules.motion_settings import MotionSettings

predict = components.predict
FRAMES = 6


def inserted(model, module, frames, strength=1.0):
    """The same model with each temporal transformer as one more layer of the UNet's blocks: the plain way to do it."""

    class Inserted(torch.nn.Module):
        def __init__(self, transformer):
            super().__init__()
            self.transformer = transformer

        def forward(self, x):
            return self.transformer(x, frames, strength)

    explicit = components.sd15_model()
    unet = explicit.model.diffusion_model
    blocks = [(("input", i), b) for i, b in enumerate(unet.input_blocks)]
    blocks += [(("middle", 0), unet.middle_block)]
    blocks += [(("output", i), b) for i, b in enumerate(unet.output_blocks)]
    for place, block in blocks:
        transformer = module.model.at(place)
        if transformer is not None:
            kinds = [type(layer) for layer in block]
            after = kinds.index(SpatialTransformer) if SpatialTransformer in kinds else kinds.index(ResBlock)
            block.insert(after + 1, Inserted(transformer))
    return explicit


@pytest.mark.parametrize("family", [families.V2, families.V3])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_hooks_equal_layers_inserted_into_the_unet(family, strength):
    model, module = components.sd15_model(), components.motion_module(family)
    applied = apply_motion_module(model, module, MotionSettings(strength))
    x = components.noise(FRAMES)
    explicit = inserted(model, module, FRAMES, strength)
    sampling = applied.get_model_object("model_sampling")
    explicit.add_object_patch("model_sampling", sampling)
    assert torch.equal(predict(applied, x), predict(explicit, x))


def test_motion_makes_frames_depend_on_each_other():
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    x = components.noise(FRAMES)
    changed = x.clone()
    changed[-1] += 1.0
    assert not torch.allclose(predict(applied, x)[0], predict(applied, changed)[0])
    base = components.sd15_model()
    assert torch.equal(predict(base, x)[0], predict(base, changed)[0])


def test_strength_0_is_the_base_model_bit_for_bit():
    base, x = components.sd15_model(), components.noise(FRAMES)
    for family in (families.V1, families.V2):
        applied = apply_motion_module(base, components.motion_module(family), MotionSettings(strength=0.0))
        same_schedule = base.clone()
        same_schedule.add_object_patch("model_sampling", applied.get_model_object("model_sampling"))
        assert torch.equal(predict(applied, x), predict(same_schedule, x))


def test_cond_and_uncond_are_two_clips_batched_or_apart():
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    x = components.noise(FRAMES)
    contexts = [components.conditioning(seed)[0][0].expand(FRAMES, -1, -1) for seed in (3, 8)]
    together = predict(applied, torch.cat([x, x]), cfg_chunks=2, context=torch.cat(contexts))
    apart = [predict(applied, x, context=context) for context in contexts]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def frozen(model):
    """Everything about the host that must stay as it was."""
    unet = model.model.diffusion_model
    return {
        "keys": list(unet.state_dict()),
        "modules": [(name, type(module), id(module)) for name, module in unet.named_modules()],
        "group norm": torch.nn.GroupNorm.forward,
        "sampling function": comfy.samplers.sampling_function,
        "calc_cond_batch": comfy.samplers.calc_cond_batch,
        "memory": comfy.model_base.BaseModel.memory_required,
        "noise": comfy.samplers.k_diffusion_sampling.default_noise_sampler,
        "options": str(sorted(model.model_options["transformer_options"])),
        "weights": [value.data_ptr() for value in unet.state_dict().values()],
    }


@pytest.mark.parametrize("family", [families.V1, families.V2])
def test_the_unet_and_the_host_are_left_alone_before_during_and_after(family):
    model = components.sd15_model()
    before = frozen(model)
    applied = apply_motion_module(model, components.motion_module(family))
    assert frozen(model) == before
    during = []
    applied.set_model_input_block_patch(lambda h, options: during.append(frozen(model)) or h)
    predict(applied, components.noise(2))
    assert during and all(state == before for state in during)
    assert frozen(model) == before


def test_base_and_applied_keep_their_noise_levels_in_turns_on_one_checkpoint():
    base = components.sd15_model()
    applied = apply_motion_module(base, components.motion_module())
    x = components.noise(2)
    first = predict(base, x), predict(applied, x)
    assert torch.equal(predict(base, x), first[0]) and torch.equal(predict(applied, x), first[1])
    assert base.get_model_object("model_sampling").sigma_max.item() == pytest.approx(14.615, abs=1e-3)
    assert applied.get_model_object("model_sampling").sigma_max.item() == pytest.approx(25.146, abs=1e-3)


class DynamicOnCpu(comfy.model_patcher.ModelPatcherDynamic):
    """The host's dynamic VRAM patcher, which hands over to the plain one where the device is the CPU."""

    def __new__(cls, *arguments, **options):
        return object.__new__(cls)


def test_under_dynamic_vram_base_and_applied_take_turns_without_mixing_their_schedules():
    if not comfy_aimdo.control.init():
        pytest.skip("comfy-aimdo has no library for this operating system")
    x, module = components.noise(FRAMES), components.motion_module()
    plain = components.sd15_model()
    expected = predict(plain, x), predict(apply_motion_module(plain, module), x)
    base = components.sd15_model(patcher_class=DynamicOnCpu)
    applied = apply_motion_module(
        base, DynamicOnCpu(components.motion_module().model, components.CPU, components.CPU)
    )
    assert applied.is_dynamic() and applied.get_nested_additional_models()[0].is_dynamic()
    for _ in range(2):
        assert torch.equal(predict(base, x), expected[0])
        assert torch.equal(predict(applied, x), expected[1])
    assert base.get_model_object("model_sampling").sigma_max.item() == pytest.approx(14.615, abs=1e-3)
    assert applied.get_model_object("model_sampling").sigma_max.item() == pytest.approx(25.146, abs=1e-3)


def test_under_low_vram_weights_are_patched_when_they_are_used(tmp_path):
    lora = load_motion_lora(components.save(components.motion_lora(), tmp_path / "zoom.safetensors"), 0.8)
    x, base = components.noise(FRAMES), components.sd15_model()
    expected = predict(
        apply_motion_module(base, components.motion_module(), MotionSettings(loras=(lora,))), x
    )
    applied = apply_motion_module(base, components.motion_module(), MotionSettings(loras=(lora,)))
    (motion,) = applied.get_nested_additional_models()
    comfy.model_management.load_models_gpu([applied, motion])
    motion.unpatch_model(components.CPU)
    motion.load(components.CPU, lowvram_model_memory=10_000)
    assert motion.model.model_lowvram and motion.lowvram_patch_counter() > 0
    assert torch.allclose(predict(applied, x), expected, atol=1e-5)


def test_start_and_end_percent_limit_where_the_module_acts():
    base = components.sd15_model()
    applied = apply_motion_module(
        base, components.motion_module(), MotionSettings(start_percent=0.2, end_percent=0.8)
    )
    sampling = applied.get_model_object("model_sampling")
    plain = base.clone()
    plain.add_object_patch("model_sampling", sampling)
    always = apply_motion_module(base, components.motion_module())
    x = components.noise(FRAMES)
    for percent, acts in [(0.1, False), (0.5, True), (0.9, False)]:
        sigma = sampling.percent_to_sigma(percent)
        assert torch.equal(predict(applied, x, sigma), predict(always if acts else plain, x, sigma)), percent


def test_percents_are_those_of_a_schedule_that_a_later_node_sets():
    (plain,) = ModelSamplingDiscrete().patch(components.sd15_model(), "eps", zsnr=False)
    settings, x = MotionSettings(end_percent=0.5), components.noise(FRAMES)
    (applied,) = ModelSamplingDiscrete().patch(
        apply_motion_module(components.sd15_model(), components.motion_module(), settings), "eps", zsnr=False
    )
    for percent, acts in ((0.45, True), (0.55, False)):
        sigma = applied.get_model_object("model_sampling").percent_to_sigma(percent)
        assert torch.equal(predict(applied, x, sigma), predict(plain, x, sigma)) != acts, percent


def test_a_start_behind_the_end_is_told(caplog):
    settings = MotionSettings(start_percent=0.6, end_percent=0.4)
    apply_motion_module(components.sd15_model(), components.motion_module(), settings)
    assert "start_percent 0.6 is not before end_percent 0.4: the motion module never acts" in caplog.text


def test_motion_scale_reaches_the_attention():
    base, module, x = components.sd15_model(), components.motion_module(), components.noise(FRAMES)
    plain = predict(apply_motion_module(base, module), x)
    assert not torch.allclose(
        predict(apply_motion_module(base, module, MotionSettings(motion_scale=1.5)), x), plain
    )


def test_a_motion_lora_changes_the_result_and_its_absence_restores_it(tmp_path):
    base, module, x = components.sd15_model(), components.motion_module(), components.noise(FRAMES)
    plain = predict(apply_motion_module(base, module), x)
    path = components.save(components.motion_lora(), tmp_path / "zoom.safetensors")
    forward, backward = load_motion_lora(path, 1.0), load_motion_lora(path, -1.0)
    zoomed = predict(apply_motion_module(base, module, MotionSettings(loras=(forward,))), x)
    assert not torch.allclose(zoomed, plain)
    assert torch.allclose(
        predict(apply_motion_module(base, module, MotionSettings(loras=(forward, backward))), x),
        plain,
        atol=1e-5,
    )
    assert torch.equal(predict(apply_motion_module(base, module), x), plain)


@pytest.mark.parametrize("times", [1, 3])
def test_later_nodes_may_clone_the_model(times):
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    x = components.noise(FRAMES)
    clone = applied
    for _ in range(times):
        clone = clone.clone()
    assert torch.equal(predict(clone, x), predict(applied, x))


def test_an_exception_in_the_middle_leaves_the_next_run_as_it_was():
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    x = components.noise(FRAMES)
    expected = predict(applied, x)

    def interrupt(h, options):
        raise comfy.model_management.InterruptProcessingException

    failing = applied.clone()
    failing.set_model_input_block_patch(interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        predict(failing, x)
    assert torch.equal(predict(applied, x), expected)


@pytest.mark.parametrize(
    ("weights", "compute"),
    [
        (torch.float16, None),
        (torch.bfloat16, None),
        (torch.float8_e4m3fn, torch.bfloat16),
        (torch.float8_e4m3fn, torch.float32),
    ],
)
@pytest.mark.parametrize("motion", [torch.float32, torch.float16])
def test_motion_follows_the_unets_compute_type(weights, compute, motion):
    model = components.sd15_model(dtype=weights, compute_dtype=compute)
    seen = []
    applied = apply_motion_module(model, components.motion_module(dtype=motion))
    applied.set_model_output_block_patch(lambda h, skip, options: seen.append(h.dtype) or (h, skip))
    assert torch.isfinite(predict(applied, components.noise(2))).all()
    assert set(seen) == {compute or weights}


def test_a_model_taken_out_of_dynamic_vram_takes_its_motion_module_along(tmp_path):
    if not comfy_aimdo.control.init():
        pytest.skip("comfy-aimdo has no library for this operating system")
    path = components.save(components.original_weights(), tmp_path / "mm_sd15_v2.safetensors")
    loaded = load_motion_module(path)
    motion = DynamicOnCpu(loaded.model, components.CPU, components.CPU)
    motion.cached_patcher_init = loaded.cached_patcher_init
    base = components.sd15_model(patcher_class=DynamicOnCpu)
    base.cached_patcher_init = (lambda disable_dynamic=False: components.sd15_model(), ())
    applied = apply_motion_module(base, motion)
    static = applied.clone(disable_dynamic=True)
    (taken,) = static.get_additional_models_with_key(KEY)
    assert not static.is_dynamic() and not taken.is_dynamic() and taken.model is not loaded.model
    assert (
        apply_motion_module(components.sd15_model(), motion)
        .get_additional_models_with_key(KEY)[0]
        .is_dynamic()
        is False
    )


def test_the_motion_weights_are_counted_and_loaded_by_the_host():
    module = components.motion_module()
    applied = apply_motion_module(components.sd15_model(), module)
    (additional,) = applied.get_nested_additional_models()
    assert additional.model is module.model and additional.model_size() > 0
