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
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.across_frames import norm_across_frames
from fast_animatediff.motion_modules.adapter import KEY, MotionSettings, apply_motion_module
from fast_animatediff.motion_modules.checkpoint import load_motion_module
from fast_animatediff.motion_modules.lora import load_motion_lora
from fast_animatediff.motion_modules.schedule import VelocitySampling

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


class AcrossFrames(torch.nn.Module):
    """A group norm written out with statistics over the group's channels, all frames and all pixels."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        f, c, h, w = x.shape
        groups = x.transpose(0, 1).reshape(32, -1)
        centred = groups - groups.mean(1, keepdim=True)
        normal = centred / (centred.square().mean(1, keepdim=True) + self.norm.eps).sqrt()
        normal = normal.reshape(c, f, h, w).transpose(0, 1)
        return normal * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def make_norms_see_all_frames(unet):
    """v1 as trained: the ResBlocks' norms and the output norm, and no others."""
    count = 1
    for layer in unet.modules():
        if isinstance(layer, ResBlock):
            layer.in_layers[0] = AcrossFrames(layer.in_layers[0])
            layer.out_layers[0] = AcrossFrames(layer.out_layers[0])
            count += 2
    unet.out[0] = AcrossFrames(unet.out[0])
    assert count == 45


def test_v1_normalises_exactly_45_layers_across_the_frames():
    module = components.motion_module(families.V1)
    x, context = components.noise(FRAMES), components.conditioning()[0][0]
    applied = apply_motion_module(components.sd15_model(), module)
    explicit = inserted(components.sd15_model(), module, FRAMES)
    explicit.add_object_patch("model_sampling", applied.get_model_object("model_sampling"))
    plain = predict(explicit, x, context=context)
    make_norms_see_all_frames(explicit.model.diffusion_model)
    assert torch.allclose(predict(applied, x), predict(explicit, x, context=context), atol=1e-5)
    assert not torch.allclose(predict(applied, x), plain, atol=1e-2)


def test_v1_keeps_two_conditions_apart():
    applied = apply_motion_module(components.sd15_model(), components.motion_module(families.V1))
    x = components.noise(2 * FRAMES)
    both = predict(applied, x, cfg_chunks=2)
    assert torch.allclose(both[:FRAMES], predict(applied, x[:FRAMES]), atol=1e-5)


def test_norm_across_one_frame_is_the_plain_norm():
    norm = torch.nn.GroupNorm(4, 8)
    x = torch.randn(3, 8, 5, 5)
    assert torch.allclose(norm_across_frames(norm, x, 1), norm(x), atol=1e-6)


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


def test_another_packs_layer_patch_is_called_and_still_followed_by_motion():
    base, module, x = components.sd15_model(), components.motion_module(), components.noise(FRAMES)
    expected = predict(apply_motion_module(base, module), x)
    calls = []

    def theirs(layer, x, emb, context, options, *_):
        calls.append(options["block"])
        return layer(x, context, options)

    for order in ("before", "after"):
        model = base.clone()
        if order == "before":
            model.set_model_forward_timestep_embed_patch((SpatialTransformer, theirs))
        model = apply_motion_module(model, module)
        if order == "after":
            model.set_model_forward_timestep_embed_patch((SpatialTransformer, theirs))
        assert torch.equal(predict(model, x), expected) and len(calls) == 16, order
        calls.clear()


def test_other_packs_read_ad_params():
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    seen = []
    applied.set_model_input_block_patch(lambda h, options: seen.append(options["ad_params"]) or h)
    predict(applied, components.noise(FRAMES))
    assert seen[0] == {"full_length": FRAMES, "context_length": None, "sub_idxs": None}


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


def test_a_guider_of_two_models_may_have_motion_on_one_of_them():
    from comfy_extras.nodes_custom_sampler import DualModelGuider

    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    guider = DualModelGuider.execute(
        applied,
        components.conditioning(3),
        3.0,
        model_negative=components.sd15_model(7),
        negative=components.conditioning(5),
    ).args[0]
    samples = guider.sample(
        components.noise(2),
        torch.zeros(2, 4, 8, 8),
        comfy.samplers.sampler_object("euler"),
        torch.tensor([9.0, 2.0, 0.0]),
        seed=1,
    )
    assert torch.isfinite(samples).all()


def test_two_packs_that_pass_layers_on_do_not_call_each_other_for_ever():
    model = apply_motion_module(components.sd15_model(), components.motion_module())
    x = components.noise(2)
    expected = predict(model, x)

    def theirs(layer, x, emb, context, options, *rest):
        entries = options["patches"]["forward_timestep_embed_patch"]
        following = next(patch for kind, patch in entries if patch is not theirs and isinstance(layer, kind))
        return following(layer, x, emb, context, options, *rest)

    model = model.clone()
    entries = model.model_options["transformer_options"]["patches"]["forward_timestep_embed_patch"]
    entries.insert(0, ((ResBlock, SpatialTransformer), theirs))
    assert torch.equal(predict(model, x), expected)


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


@pytest.mark.parametrize("kind", ["SD20", "SDXL"])
def test_a_model_of_another_kind_is_named(kind):
    model = components.sd15_model()
    model.model.model_config = getattr(comfy.supported_models, kind)(components.sd15_config())
    with pytest.raises(
        ValueError, match=f"test.safetensors needs an SD1.5 checkpoint, but this model is {kind}"
    ):
        apply_motion_module(model, components.motion_module())


def test_the_motion_weights_are_counted_and_loaded_by_the_host():
    module = components.motion_module()
    applied = apply_motion_module(components.sd15_model(), module)
    (additional,) = applied.get_nested_additional_models()
    assert additional.model is module.model and additional.model_size() > 0


def test_more_frames_than_positions_in_one_window_say_what_to_do():
    applied = apply_motion_module(components.sd15_model(), components.motion_module(families.V1))
    with pytest.raises(ValueError, match="at most 24 frames, this window has 25.*context_length to 16"):
        predict(applied, components.noise(25))


@pytest.mark.parametrize("frames", [4, 8, 16])
@pytest.mark.parametrize("how", ["tiles", "conditions apart"])
def test_wrappers_that_change_the_batch_leave_frames_with_their_clip(frames, how):
    """Tiled diffusion stacks tiles along the batch; others run the conditions one after the other."""

    def split(apply, call):
        x, t, c = call["input"], call["timestep"], call["c"]

        def part(value, i, n):
            is_batch = torch.is_tensor(value) and value.shape[:1] == x.shape[:1]
            return value.chunk(n)[i] if is_batch else value

        return torch.cat(
            [apply(part(x, i, 2), part(t, i, 2), **{k: part(v, i, 2) for k, v in c.items()}) for i in (0, 1)]
        )

    def stacked(together):
        def tiles(apply, call):
            x, t, c = call["input"], call["timestep"], call["c"]
            halves = x.chunk(2, dim=3)
            twice = {k: torch.cat([v, v]) if torch.is_tensor(v) else v for k, v in c.items()}
            if together:
                out = apply(torch.cat(halves), torch.cat([t, t]), **twice).chunk(2)
            else:
                out = [apply(half, t, **c) for half in halves]
            return torch.cat(out, dim=3)

        return tiles

    def render(wrapper):
        model = apply_motion_module(components.sd15_model(), components.motion_module()).clone()
        if wrapper:
            model.set_model_unet_function_wrapper(wrapper)
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(components.conditioning(3), components.conditioning(5))
        guider.set_cfg(4.0)
        latent, sampler = torch.zeros(frames, 4, 16, 16), comfy.samplers.sampler_object("euler")
        return guider.sample(components.noise(frames, 16), latent, sampler, torch.tensor([9.0, 0.0]), seed=1)

    wrappers = (stacked(True), stacked(False)) if how == "tiles" else (split, None)
    found, expected = (render(wrapper) for wrapper in wrappers)
    assert (found - expected).norm() / expected.norm() < 1e-5
