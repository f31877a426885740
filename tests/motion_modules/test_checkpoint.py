from __future__ import annotations

import os
import pickle

import components
import pytest
import torch
from safetensors.torch import save_file

import comfy.model_management
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.checkpoint import load_motion_module, read_motion_module

FAMILIES = [
    # file name, family of the weights, positions in the file, expected
    ("mm_sd_v14.safetensors", families.V1, 24, families.V1),
    ("mm_sd_v15.safetensors", families.V1, 24, families.V1),
    ("temporaldiff-v1-animatediff.safetensors", families.V1, 24, families.V1),
    ("mm_sd15_v2.safetensors", families.V2, 32, families.V2),
    ("mm_sd15_v3.safetensors", families.V3, 32, families.V3),
    ("lt_long_mm_32_frames.safetensors", families.V2, 64, families.LONG_32),
    ("lt_long_mm_16_64_frames_v1.1.safetensors", families.V2, 128, families.LONG_64),
    ("animatediff_lightning_1step_comfyui.safetensors", families.V2, 32, families.lightning(1)),
    ("animatediff_lightning_2step_diffusers.safetensors", families.V2, 32, families.lightning(2)),
    ("animatediff_lightning_4step_comfyui.safetensors", families.V2, 32, families.lightning(4)),
    ("AnimateDiff-Lightning 8-step.safetensors", families.V2, 32, families.lightning(8)),
    ("mm_sd15_AnimateLCM.safetensors", families.V2, None, families.ANIMATE_LCM),
    ("stripped.safetensors", families.V2, None, families.ANIMATE_LCM),
]


@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize(("name", "made_as", "pe_length", "expected"), FAMILIES)
def test_every_family_is_recognised_in_both_layouts(tmp_path, name, made_as, pe_length, expected, layout):
    weights = components.original_weights(made_as, pe_length)
    stored = components.diffusers_weights(weights) if layout == "diffusers" else weights
    config, read = read_motion_module(components.save(stored, tmp_path / name))
    assert config.family == expected
    assert config.positions == (pe_length or 64)
    assert config.channels == components.CHANNELS
    assert config.has_mid_block == (made_as == families.V2)
    assert read.keys() == {key for key in weights if not key.endswith(".pe")}
    assert all(torch.equal(read[key], weights[key]) for key in read)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {f"module.{key}": value for key, value in w.items()},
        lambda w: {"state_dict": {f"module.{key}": value for key, value in w.items()}},
        lambda w: {**w, "animatediff_config": {"beta_schedule": "linear"}},
    ],
    ids=["state_dict", "module", "both", "config entry"],
)
@pytest.mark.parametrize("suffix", [".ckpt", ".pth"])
def test_ckpt_files_are_read_through_their_wrappers(tmp_path, wrap, suffix):
    weights = components.original_weights(families.V2)
    path = tmp_path / f"mm_sd_v15_v2{suffix}"
    torch.save(wrap(weights), path)
    config, read = read_motion_module(str(path))
    assert config.family == families.V2 and len(read) == len(weights) - 42


def test_a_loaded_module_holds_the_files_weights_and_a_way_to_load_it_again(tmp_path):
    weights = components.original_weights(families.V3)
    path = components.save(weights, tmp_path / "mm_sd15_v3.safetensors")
    patcher = load_motion_module(path)
    state = patcher.model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in components.apart(state).items())
    factory, arguments = patcher.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)
    assert again.model is not patcher.model and again.model.config == patcher.model.config


def test_a_fp16_file_is_loaded_in_the_type_of_the_unet_here(tmp_path):
    weights = {key: value.half() for key, value in components.original_weights().items()}
    patcher = load_motion_module(components.save(weights, tmp_path / "mm_sd15_v2.safetensors"))
    expected = comfy.model_management.unet_dtype(device=comfy.model_management.get_torch_device())
    assert {value.dtype for value in patcher.model.state_dict().values()} == {expected}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_a_file_of_8_bits_is_loaded_with_its_positions(tmp_path, dtype, caplog):
    weights = {key: value.to(dtype) for key, value in components.original_weights().items()}
    config, read = read_motion_module(components.save(weights, tmp_path / "mm_sd15_v2_fp8.safetensors"))
    assert config.family == families.V2 and config.positions == 32 and "position tables" not in caplog.text
    module = load_motion_module(str(tmp_path / "mm_sd15_v2_fp8.safetensors")).model
    key = "mid_block.motion_modules.0.temporal_transformer.proj_in.weight"
    assert torch.equal(module.state_dict()[key].float(), read[key].float())


def test_an_8_bit_unet_does_not_make_the_motion_weights_8_bit(tmp_path, monkeypatch):
    from comfy.cli_args import args

    monkeypatch.setattr(args, "fp8_e4m3fn_unet", True)
    patcher = load_motion_module(
        components.save(components.original_weights(), tmp_path / "mm_sd15_v2.safetensors")
    )
    assert all(value.dtype.itemsize >= 2 for value in patcher.model.state_dict().values())


OTHERS = [
    ("v2_lora_ZoomIn", lambda: components.motion_lora(), "motion LoRA.*animatediff_motion_lora.*Motion LoRA"),
    (
        "v3_sd15_adapter",
        lambda: {
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight": torch.ones(
                1, 2
            )
        },
        "domain adapter.*models/loras.*Load LoRA",
    ),
    (
        "dreamshaper",
        lambda: {"model.diffusion_model.out.0.weight": torch.ones(2)},
        "checkpoint.*models/checkpoints",
    ),
    (
        "lcm_lora",
        lambda: {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": torch.ones(2, 2)},
        "models/loras",
    ),
    (
        "sparsectrl",
        lambda: {
            f"module.{key}": value
            for key, value in (
                components.original_weights(families.V3) | {"controlnet_cond_embedding.x": torch.ones(2)}
            ).items()
        },
        "SparseCtrl.*models/controlnet",
    ),
    (
        "model_prefix",
        lambda: {"text_encoder.x": torch.ones(2), "unet.conv.weight": torch.ones(2)},
        "not recognized",
    ),
    (
        "hotshot",
        lambda: {"down_blocks.0.temporal_attentions.0.norm.weight": torch.ones(2)},
        "HotshotXL.*SDXL",
    ),
    ("camera", lambda: {"encoder.x": torch.ones(1), "down.qkv_merge.weight": torch.ones(2)}, "CameraCtrl"),
    (
        "i2v",
        lambda: components.original_weights() | {"img_encoder.conv.weight": torch.ones(2)},
        "AnimateLCM-I2V",
    ),
    (
        "pia",
        lambda: components.original_weights(families.V3) | {"conv_in.weight": torch.ones(4, 9, 3, 3)},
        "PIA",
    ),
    ("random", lambda: {"something.weight": torch.ones(2)}, "not recognized.*'something.weight'"),
]


@pytest.mark.parametrize(("name", "weights", "message"), OTHERS, ids=[other[0] for other in OTHERS])
def test_any_other_file_is_told_where_it_belongs(tmp_path, name, weights, message):
    path = components.save(weights(), tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=f"^{name}.safetensors.*{message}") as error:
        load_motion_module(path)
    assert str(tmp_path) not in str(error.value)


def test_an_sdxl_module_is_named_as_such(tmp_path):
    weights = {k: v for k, v in components.original_weights(families.V3).items() if "blocks.3." not in k}
    with pytest.raises(ValueError, match="mm_sdxl.safetensors is a motion module for SDXL"):
        load_motion_module(components.save(weights, tmp_path / "mm_sdxl.safetensors"))


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "header"])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_damaged_file_is_named_with_its_size_and_without_its_folder(tmp_path, kind, suffix):
    path = tmp_path / f"mm_sd15_v2{suffix}"
    weights = components.original_weights()
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    if kind == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif kind == "header":
        path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    else:
        path.write_bytes(b"" if kind == "empty" else b"<html>404: not found</html>")
    with pytest.raises(ValueError, match=rf"^mm_sd15_v2\{suffix} .*([Dd]ownload)") as error:
        load_motion_module(str(path))
    assert str(tmp_path) not in str(error.value)


def test_a_pickle_that_asks_to_run_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    path = tmp_path / "mm.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Attack()}))
    with pytest.raises(ValueError, match="mm.ckpt is not a plain weights file"):
        load_motion_module(str(path))
    torch.save({"state_dict": Attack()}, path)
    with pytest.raises(ValueError, match="mm.ckpt is not a plain weights file"):
        load_motion_module(str(path))
    assert not (tmp_path / "was here").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="^gone.safetensors no longer exists"):
        load_motion_module(str(tmp_path / "gone.safetensors"))


@pytest.mark.parametrize("prefix", ["model.", "motion_adapter.", "unet.module.", "module.module."])
def test_any_prefix_before_the_blocks_is_passed_over(tmp_path, prefix):
    weights = {f"{prefix}{key}": value for key, value in components.original_weights().items()}
    config, read = read_motion_module(components.save(weights, tmp_path / "mm.safetensors"))
    assert config.family == families.V2 and len(read) == 546


def test_the_folder_of_a_file_is_a_sign_too(tmp_path):
    (tmp_path / "AnimateLCM").mkdir()
    path = tmp_path / "AnimateLCM" / "diffusion_pytorch_model.safetensors"
    weights = components.diffusers_weights(components.original_weights())
    assert read_motion_module(components.save(weights, path))[0].family == families.ANIMATE_LCM


NAMED = [
    # folder, file, family, sign
    ("LCM", "mm_sd_v15_v2", families.V2, "mid block"),
    ("my_Calcm_style", "diffusion_pytorch_model", families.V2, "mid block"),
    ("any", "my_Calcm_style", families.V2, "mid block"),
    ("any", "enlightning", families.V2, "mid block"),
    ("lightning", "mm_sd15_v2", families.V2, "mid block"),
    ("AnimateLCM", "diffusion_pytorch_model", families.ANIMATE_LCM, "its folder"),
    ("AnimateDiff-Lightning 4-step", "model", families.lightning(4), "its folder"),
    ("LCM", "animatediff_lightning_2step_comfyui", families.lightning(2), "its file name"),
    ("lightning_8step", "AnimateLCM_sd15_t2v", families.ANIMATE_LCM, "its file name"),
    ("any", "animatelcm", families.ANIMATE_LCM, "its file name"),
    ("any", "lightning_fp16_8step", families.lightning(8), "its file name"),
    ("any", "lightning_v2", families.lightning(0), "its file name"),
]


@pytest.mark.parametrize(("folder", "name", "expected", "sign"), NAMED)
def test_the_family_is_told_by_whole_words_and_the_file_before_its_folder(
    tmp_path, caplog, folder, name, expected, sign
):
    (tmp_path / folder).mkdir()
    path = components.save(components.original_weights(), tmp_path / folder / f"{name}.safetensors")
    with caplog.at_level("INFO"):
        assert read_motion_module(path)[0].family == expected
    assert f"{name}.safetensors: {expected.name}, by " in caplog.text and sign in caplog.text


def test_a_file_taken_for_animatelcm_only_by_its_missing_positions_says_so(tmp_path, caplog):
    path = components.save(components.original_weights(pe_length=None), tmp_path / "my_finetune.safetensors")
    assert read_motion_module(path)[0].family == families.ANIMATE_LCM
    assert "my_finetune.safetensors has no position tables" in caplog.text


def test_positions_that_are_no_sinusoids_are_told(tmp_path, caplog):
    weights = {
        key: value * 0 if key.endswith(".pe") else value
        for key, value in components.original_weights().items()
    }
    read_motion_module(components.save(weights, tmp_path / "mm_sd15_v2.safetensors"))
    assert "has its own position tables" in caplog.text


def test_a_camera_control_file_of_nested_dicts_is_recognised(tmp_path):
    nested = {"attention_processor_state_dict": {"down_blocks.0.qkv_merge.weight": torch.ones(2)}}
    torch.save(nested | {"pose_encoder_state_dict": {"encoder.x": torch.ones(2)}}, tmp_path / "camera.ckpt")
    with pytest.raises(ValueError, match="CameraCtrl"):
        load_motion_module(str(tmp_path / "camera.ckpt"))


@pytest.mark.parametrize("content", [b"abc", pickle.dumps(None)], ids=["three bytes", "none"])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_tiny_files_are_damaged_too(tmp_path, content, suffix):
    (tmp_path / f"mm{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match=f"^mm{suffix} "):
        load_motion_module(str(tmp_path / f"mm{suffix}"))


def test_missing_and_extra_weights_are_counted_and_named(tmp_path):
    extra = components.original_weights()
    extra["up_blocks.1.motion_modules.2.temporal_transformer.bonus"] = torch.ones(2)
    with pytest.raises(ValueError, match="has unknown weights: 1 of 546.*bonus"):
        load_motion_module(components.save(extra, tmp_path / "extra.safetensors"))
    weights = components.original_weights()
    del weights["up_blocks.1.motion_modules.2.temporal_transformer.proj_out.bias"]
    with pytest.raises(ValueError, match="lacks weights: 1 of 546.*up_blocks.1.*proj_out.bias"):
        load_motion_module(components.save(weights, tmp_path / "mm.safetensors"))
