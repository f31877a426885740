from __future__ import annotations

import logging
import re

import components
import pytest
import torch

from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.lora import apply_motion_lora, load_motion_lora


def as_diffusers(lora):
    renamed = {}
    for key, value in lora.items():
        key = key.replace(".temporal_transformer", "").replace(".attention_blocks.0", ".attn1")
        renamed["unet." + key.replace(".attention_blocks.1", ".attn2")] = value
    return renamed


def as_peft(lora, adapter=""):
    renamed = {}
    for key, value in as_diffusers(lora).items():
        key = key.replace(".processor", "").replace("to_out_lora", "to_out.0_lora")
        renamed[key.replace("_lora.up", f".lora_B{adapter}").replace("_lora.down", f".lora_A{adapter}")] = (
            value
        )
    return renamed


def as_webui(lora, prefix=""):
    renamed = {}
    for key, value in lora.items():
        layer, part = key.replace(".processor", "").removesuffix(".weight").rsplit("_lora.", 1)
        renamed[f"{prefix}{layer.replace('.', '_')}.lora_{part}.weight"] = value
    return renamed


LAYOUTS = {
    "original": lambda lora: lora,
    "diffusers": as_diffusers,
    "peft": as_peft,
    "peft with adapter name": lambda lora: as_peft(lora, ".default"),
    "webui": as_webui,
    "webui with prefix": lambda lora: as_webui(lora, "lora_unet_"),
    "module prefix": lambda lora: {f"module.{key}": value for key, value in lora.items()},
}


def dense_weights(module, lora, strength, scale=1.0):
    """W + strength * scale * up @ down, multiplied out."""
    weights = {key: value.clone() for key, value in components.apart(module.model.state_dict()).items()}
    for key, up in lora.items():
        if key.endswith("_lora.up.weight"):
            down = lora[key.replace(".up.", ".down.")]
            target = re.sub(r"\.processor\.(to_\w+)_lora\.up\.weight", r".\1.weight", key).replace(
                "to_out.", "to_out.0."
            )
            if target in weights:
                weights[target] += strength * scale * up @ down
    return weights


def patched_weights(patcher):
    patcher.patch_model()
    weights = {key: value.clone() for key, value in components.apart(patcher.model.state_dict()).items()}
    patcher.unpatch_model()
    return weights


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max((a[key] - b[key]).abs().max().item() for key in a)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("strength", [1.0, 0.7, -1.0])
def test_low_rank_equals_dense_in_every_layout_and_sign(tmp_path, layout, strength):
    module, lora = components.motion_module(), components.motion_lora()
    path = components.save(LAYOUTS[layout](lora), tmp_path / "v2_lora_ZoomIn.safetensors")
    patched = apply_motion_lora(module, load_motion_lora(path, strength))
    assert largest_difference(patched_weights(patched), dense_weights(module, lora, strength)) < 1e-5


def test_several_loras_add_up(tmp_path):
    module, first, second = (
        components.motion_module(),
        components.motion_lora(seed=2),
        components.motion_lora(seed=5),
    )
    expected = dense_weights(module, first, 0.8)
    for key, value in dense_weights(module, second, -0.5).items():
        expected[key] = expected[key] + value - components.apart(module.model.state_dict())[key]
    patched = module
    for number, (lora, strength) in enumerate([(first, 0.8), (second, -0.5)]):
        path = components.save(lora, tmp_path / f"{number}.safetensors")
        patched = apply_motion_lora(patched, load_motion_lora(path, strength))
    assert largest_difference(patched_weights(patched), expected) < 1e-5


def test_alpha_divided_by_rank_scales_the_change(tmp_path):
    module, lora = components.motion_module(), components.motion_lora(rank=4)
    with_alpha = lora | {
        key.replace("_lora.up.weight", "_lora.alpha"): torch.tensor(2.0) for key in lora if ".up." in key
    }
    path = components.save(with_alpha, tmp_path / "alpha.safetensors")
    patched = apply_motion_lora(module, load_motion_lora(path, 1.0))
    assert largest_difference(patched_weights(patched), dense_weights(module, lora, 1.0, scale=2 / 4)) < 1e-5


def test_the_lora_stays_in_low_rank_form(tmp_path):
    path = components.save(components.motion_lora(rank=4), tmp_path / "zoom.safetensors")
    patched = apply_motion_lora(components.motion_module(), load_motion_lora(path, 1.0))
    held = [
        tensor
        for patches in patched.patches.values()
        for p in patches
        for tensor in p[1].weights
        if torch.is_tensor(tensor)
    ]
    assert held and max(min(tensor.shape) for tensor in held) == 4


def test_the_module_itself_is_left_alone(tmp_path):
    module = components.motion_module()
    before = {key: value.clone() for key, value in module.model.state_dict().items()}
    path = components.save(components.motion_lora(), tmp_path / "zoom.safetensors")
    patched_weights(apply_motion_lora(module, load_motion_lora(path, 1.0)))
    assert not module.patches and largest_difference(module.model.state_dict(), before) == 0.0


@pytest.mark.parametrize("family", [families.V1, families.V3])
def test_layers_that_v1_and_v3_lack_are_named_in_one_warning(tmp_path, caplog, family):
    path = components.save(components.motion_lora(), tmp_path / "v2_lora_PanLeft.safetensors")
    with caplog.at_level(logging.WARNING):
        patched = apply_motion_lora(components.motion_module(family), load_motion_lora(path, 1.0))
    (record,) = caplog.records
    assert "8 of 168 layers" in record.message and "mid_block.motion_modules.0" in record.message
    assert sum(len(patches) for patches in patched.patches.values()) == 160


def test_a_lora_for_a_wider_module_is_refused(tmp_path):
    lora = {
        key: torch.cat([value, value], dim=0 if ".up." in key else 1)
        for key, value in components.motion_lora().items()
    }
    path = components.save(lora, tmp_path / "wide.safetensors")
    with pytest.raises(
        ValueError, match=r"wide.safetensors changes \(64, 64\).*test.safetensors has \(32, 32\)"
    ):
        apply_motion_lora(components.motion_module(), load_motion_lora(path, 1.0))


def test_a_lora_for_other_layers_is_refused(tmp_path):
    key = "down_blocks.7.motion_modules.0.temporal_transformer.proj_in.lora_{}.weight"
    path = components.save(
        {key.format("A"): torch.ones(2, 4), key.format("B"): torch.ones(4, 2)}, tmp_path / "x.safetensors"
    )
    with pytest.raises(
        ValueError, match="x.safetensors fits no layer of test.safetensors; its first is 'down_blocks.7"
    ):
        apply_motion_lora(components.motion_module(), load_motion_lora(path, 1.0))


def test_half_a_lora_is_refused(tmp_path):
    lora = components.motion_lora()
    del lora[next(key for key in lora if ".down." in key)]
    path = components.save(lora, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match="half.safetensors lacks lora_down.weight of 'down_blocks.0"):
        load_motion_lora(path, 1.0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: components.original_weights(), "it is a motion module.*Load Motion Module"),
        (
            lambda: {"lora_unet_mid.lora_up.weight": torch.ones(2, 2)},
            "it is a LoRA for the image model.*models/loras",
        ),
        (lambda: {"model.diffusion_model.x": torch.ones(2)}, "it is a checkpoint"),
    ],
)
def test_any_other_file_is_told_where_it_belongs(tmp_path, weights, message):
    with pytest.raises(ValueError, match=f"^file.safetensors is not a motion LoRA: {message}"):
        load_motion_lora(components.save(weights(), tmp_path / "file.safetensors"), 1.0)


def test_weights_for_the_image_model_beside_the_motion_are_named(tmp_path, caplog):
    lora = components.motion_lora() | {"down_blocks.0.attentions.0.proj_in.lora_A.weight": torch.ones(2, 2)}
    with caplog.at_level(logging.WARNING):
        load_motion_lora(components.save(lora, tmp_path / "mixed.safetensors"), 1.0)
    assert "down_blocks.0.attentions.0" in caplog.text
