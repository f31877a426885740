from __future__ import annotations

import components
import pytest
import torch

import comfy.ldm.modules.attention
import comfy.sample
from comfy.cli_args import args
from comfy.ldm.modules.attention import attention_pytorch, attention_sub_quad
from fast_animatediff.motion_modules import cpu
from fast_animatediff.motion_modules.adapter import KEY, apply_motion_module
from fast_animatediff.motion_modules.lora import load_motion_lora
from fast_animatediff.motion_modules.motion_settings import MotionSettings

FRAMES = 4
native_bf16 = pytest.mark.skipif(not cpu.has_native_bf16(), reason="a processor without bf16")


def types_seen(model):
    """The types of the features that the UNet's blocks give."""
    seen = set()
    watched = model.clone()
    watched.set_model_output_block_patch(lambda h, skip, options: seen.add(h.dtype) or (h, skip))
    components.predict(watched, components.noise(FRAMES))
    return seen


@native_bf16
def test_a_processor_with_bf16_computes_in_it_within_a_hundredth():
    base, module, x = components.sd15_model(), components.motion_module(), components.noise(FRAMES)
    exact = components.predict(apply_motion_module(base, module), x)
    applied = apply_motion_module(base, module, MotionSettings(cpu_bf16=True))
    rough = components.predict(applied, x)
    assert types_seen(applied) == {torch.bfloat16} and rough.dtype == torch.float32
    assert (rough - exact).norm() / exact.norm() < 1e-2
    assert torch.equal(components.predict(applied, x), rough)


@native_bf16
@pytest.mark.parametrize(("width", "height"), [(64, 96), (32, 64), (16, 24)])
def test_narrow_clips_are_as_exact_as_others(width, height):
    """Where a convolution of PyTorch's in bf16 gives what memory held before."""

    def sampled(settings):
        applied = apply_motion_module(components.sd15_model(), components.motion_module(), settings)
        noise = torch.randn(FRAMES, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(2))
        samples = comfy.sample.sample(
            applied, noise, 1, 1.0, "euler", "simple", components.conditioning(), components.conditioning(),
            torch.zeros_like(noise), seed=1, disable_pbar=True,
        )  # fmt: skip
        return samples, applied

    exact, _ = sampled(MotionSettings())
    rough, applied = sampled(MotionSettings(cpu_bf16=True))
    assert (rough - exact).norm() / exact.norm() < 1e-3
    assert types_seen(applied) == {torch.bfloat16}


@native_bf16
def test_a_motion_modules_weights_are_cast_to_bf16_once_and_the_file_stays_as_it_was_read():
    module = components.motion_module()
    applied = apply_motion_module(components.sd15_model(), module, MotionSettings(cpu_bf16=True))
    (cast,) = applied.get_additional_models_with_key(KEY)
    assert {weight.dtype for weight in cast.model.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in module.model.parameters()} == {torch.float32}
    for key, weight in module.model.state_dict().items():
        assert torch.equal(cast.model.state_dict()[key], weight.bfloat16()), key


@native_bf16
def test_a_motion_lora_that_was_used_in_fp32_is_not_in_the_bf16_copy(tmp_path):
    base, module, x = components.sd15_model(), components.motion_module(), components.noise(FRAMES)
    read = {key: weight.clone() for key, weight in module.model.state_dict().items()}
    lora = load_motion_lora(components.save(components.motion_lora(), tmp_path / "zoom.safetensors"), 1.0)
    components.predict(apply_motion_module(base, module, MotionSettings(loras=(lora,))), x)
    applied = apply_motion_module(base, module, MotionSettings(cpu_bf16=True))
    (cast,) = applied.get_additional_models_with_key(KEY)
    for key, weight in cast.model.state_dict().items():
        assert torch.equal(weight, read[key].bfloat16()), key


@native_bf16
def test_the_model_from_before_the_node_stays_as_it_is():
    base, x = components.sd15_model(), components.noise(FRAMES)
    before = components.predict(base, x)
    components.predict(
        apply_motion_module(base, components.motion_module(), MotionSettings(cpu_bf16=True)), x
    )
    assert torch.equal(components.predict(base, x), before)


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", ["replace", "patch"])
def test_attention_patches_with_tensors_in_the_models_own_type_work_beside_bf16(monkeypatch, order, kind):
    """IPAdapter packs make keys and values in `comfy.model_management.unet_dtype()`, fp32 on a CPU."""
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: True)
    seen = set()

    def replace(q, k, v, options):
        seen.add(q.dtype)
        out = attention_pytorch(q, k, v, options["n_heads"])
        image = torch.ones(q.shape[0], 4, q.shape[2], dtype=comfy.model_management.unet_dtype())
        return out + attention_pytorch(q, image, image, options["n_heads"])

    def patch(n, k, v, options):
        image = torch.ones(n.shape[0], 4, k.shape[2], dtype=comfy.model_management.unet_dtype())
        return n, torch.cat([k, image], dim=1), torch.cat([v, image], dim=1)

    def patched(model):
        model = model.clone()
        if kind == "patch":
            model.set_model_attn2_patch(patch)
        else:
            model.set_model_attn2_replace(replace, "output", 11)
        return model

    def applied(model, settings):
        if order == "before":
            return apply_motion_module(patched(model), components.motion_module(), settings)
        return patched(apply_motion_module(model, components.motion_module(), settings))

    x, base = components.noise(FRAMES), components.sd15_model()
    exact = components.predict(applied(base, MotionSettings()), x)
    rough = components.predict(applied(base, MotionSettings(cpu_bf16=True)), x)
    assert (rough - exact).norm() / exact.norm() < 1e-2 and not torch.equal(rough, exact)
    assert seen <= {torch.float32}


def test_patches_between_the_layers_that_give_fp32_work_beside_bf16(monkeypatch):
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: True)

    def predicted(settings):
        model = apply_motion_module(components.sd15_model(), components.motion_module(), settings)
        model.set_model_input_block_patch(lambda h, options: h + torch.ones(h.shape))
        model.set_model_output_block_patch(lambda h, skip, options: (h.float() * 0.9, skip.float() * 1.1))
        return components.predict(model, components.noise(FRAMES))

    exact, rough = predicted(MotionSettings()), predicted(MotionSettings(cpu_bf16=True))
    assert (rough - exact).norm() / exact.norm() < 1e-2 and not torch.equal(rough, exact)


@pytest.mark.parametrize("flag", ["force_fp32", "fp32_unet"])
def test_fp32_asked_for_at_the_start_is_fp32(monkeypatch, flag):
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: True)
    monkeypatch.setattr(args, flag, True)
    applied = apply_motion_module(
        components.sd15_model(), components.motion_module(), MotionSettings(cpu_bf16=True)
    )
    assert types_seen(applied) == {torch.float32}


def test_a_compute_type_chosen_by_another_node_is_kept(monkeypatch):
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: True)
    model = components.sd15_model()
    model.set_model_compute_dtype(torch.float32)
    assert types_seen(
        apply_motion_module(model, components.motion_module(), MotionSettings(cpu_bf16=True))
    ) == {torch.float32}


def test_a_processor_without_bf16_computes_in_fp32(monkeypatch):
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: False)
    applied = apply_motion_module(
        components.sd15_model(), components.motion_module(), MotionSettings(cpu_bf16=True)
    )
    assert types_seen(applied) == {torch.float32}


def test_attention_that_the_host_fell_back_to_is_replaced_by_pytorchs(monkeypatch):
    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", attention_sub_quad)
    base, module, x = components.sd15_model(), components.motion_module(), components.noise(FRAMES)
    del base.model_options["transformer_options"][cpu.ATTENTION]
    applied = apply_motion_module(base, module)
    slow = applied.clone()
    assert slow.model_options["transformer_options"].pop(cpu.ATTENTION) is cpu.pytorch_attention
    assert cpu.ATTENTION not in base.model_options["transformer_options"]
    fast, expected = components.predict(applied, x), components.predict(slow, x)
    assert (fast - expected).norm() / expected.norm() < 1e-5


def test_attention_that_somebody_chose_is_kept(monkeypatch):
    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", attention_sub_quad)
    model, module = components.sd15_model(), components.motion_module()
    model.model_options["transformer_options"][cpu.ATTENTION] = components.predict
    applied = apply_motion_module(model, module)
    assert applied.model_options["transformer_options"][cpu.ATTENTION] is components.predict
    monkeypatch.setattr(args, "use_quad_cross_attention", True)
    del model.model_options["transformer_options"][cpu.ATTENTION]
    applied = apply_motion_module(model, module)
    assert cpu.ATTENTION not in applied.model_options["transformer_options"]
