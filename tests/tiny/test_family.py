from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import comfy.controlnet
import comfy.model_detection
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from fast_animatediff.motion_modules.checkpoint import load_motion_module, read_motion_module
from fast_animatediff.motion_modules.lora import load_motion_lora
from fast_animatediff.tiny.domain.measures import psnr
from fast_animatediff.tiny.domain.render import render
from fast_animatediff.tiny.domain.scenes import draw_attributes, draw_scenes, seeded
from fast_animatediff.tiny.extension.family import HEADS, UNET, TinySD15
from fast_animatediff.tiny.shipped import (
    CHECKPOINT,
    EDGE_CONTROLNET,
    MOTION_LORAS,
    MOTION_MODULE,
    TURBO_LORA,
    TURBO_MODULE,
)

FULL_SIZE = UNET | {"model_channels": 320, "channel_mult": [1, 2, 4, 4], "context_dim": 768}
FULL_SIZE_HEADS = {"num_heads": 8, "num_head_channels": -1}


def unet(config: dict, heads: dict) -> UNetModel:
    return UNetModel(**config, **heads, device="meta", operations=comfy.ops.disable_weight_init)


def detect(config: dict, heads: dict) -> object:
    weights = {f"model.diffusion_model.{k}": v for k, v in unet(config, heads).state_dict().items()}
    return comfy.model_detection.model_config_from_unet(weights, "model.diffusion_model.")


def layers_of(model: UNetModel) -> dict[str, list[str]]:
    places = {"input": model.input_blocks, "middle": [model.middle_block], "output": model.output_blocks}
    return {
        f"{place} {i}": [type(layer).__name__ for layer in block]
        for place, blocks in places.items()
        for i, block in enumerate(blocks)
    }


@pytest.fixture(scope="module")
def loaded(tiny_family: None, models: Path) -> tuple:
    return comfy.sd.load_checkpoint_guess_config(str(models / CHECKPOINT))


def test_the_tiny_unet_has_the_layers_of_sd15_at_the_same_places() -> None:
    assert layers_of(unet(UNET, HEADS)) == layers_of(unet(FULL_SIZE, FULL_SIZE_HEADS))


def test_a_tiny_checkpoint_is_recognised_as_the_tiny_family(loaded: tuple) -> None:
    assert type(loaded[0].model.model_config) is TinySD15


def test_a_full_size_sd15_checkpoint_is_still_sd15(tiny_family: None) -> None:
    found = detect(FULL_SIZE, FULL_SIZE_HEADS)
    assert type(found) is comfy.supported_models.SD15
    assert found.unet_config["num_heads"] == 8


def test_the_text_encoder_takes_the_standard_tokens_and_weights_words(loaded: tuple) -> None:
    clip = loaded[1]
    plain, _ = clip.encode_from_tokens(clip.tokenize("a red circle"), return_pooled=True)
    heavy, _ = clip.encode_from_tokens(clip.tokenize("a (red:1.4) circle"), return_pooled=True)
    assert plain.shape == (1, 77, 128)
    assert plain.isfinite().all() and not torch.equal(plain, heavy)


def test_the_vae_keeps_what_it_is_given(loaded: tuple) -> None:
    vae = loaded[2]
    scenes = draw_scenes(seeded("vae test"), draw_attributes(seeded("vae test"), 8), 1)
    images = render(scenes, torch.zeros(8, 1), 64)[:, 0].movedim(1, -1)
    latents = vae.encode(images)
    assert latents.shape == (8, 4, 8, 8)
    assert psnr(vae.decode(latents), images) > 27
    assert 0.5 < loaded[0].model.process_latent_in(latents).std() < 2  # spread like those of SD1.5


@pytest.mark.parametrize(
    ("name", "family", "positions"),
    [(MOTION_MODULE, "AnimateDiff v2", 32), (TURBO_MODULE, "AnimateLCM", 64)],
)
def test_the_motion_modules_are_what_their_names_say(
    models: Path, name: str, family: str, positions: int
) -> None:
    config, weights = read_motion_module(str(models / name))
    assert (config.family.name, config.positions, config.has_mid_block) == (family, positions, True)
    assert all(value.abs().max() > 0 for key, value in weights.items() if "proj_out.weight" in key)
    load_motion_module(str(models / name))  # every weight present, with the size it must have


def test_the_turbo_module_has_no_position_tables(models: Path) -> None:
    with safe_open(models / TURBO_MODULE, "pt") as file:
        assert not [key for key in file.keys() if "pos_encoder" in key]


def test_every_motion_lora_changes_all_attentions_of_the_motion_module(models: Path) -> None:
    _, weights = read_motion_module(str(models / MOTION_MODULE))
    attentions = {key.removesuffix(".weight") for key in weights if re.search(r"\.to_.*weight$", key)}
    assert len(attentions) == 21 * 2 * 4
    for name in MOTION_LORAS:
        assert set(load_motion_lora(str(models / name), 1.0).layers) == attentions


def test_the_turbo_lora_fits_the_tiny_unet(
    loaded: tuple, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lora = comfy.utils.load_torch_file(str(models / TURBO_LORA))
    with caplog.at_level(logging.WARNING):
        model, _ = comfy.sd.load_lora_for_models(loaded[0], None, lora, 1.0, 0.0)
    assert "not loaded" not in caplog.text
    assert len(model.patches) == len(lora) / 3 > 200


def test_the_edge_controlnet_fits_the_tiny_unet_as_the_host_loads_it(loaded: tuple, models: Path) -> None:
    path = models / EDGE_CONTROLNET
    control = comfy.controlnet.load_controlnet(str(path))
    assert isinstance(control, comfy.controlnet.ControlLora)
    control.pre_run(loaded[0].model, lambda percent: 999.0 * (1 - percent))
    layers = dict(control.control_model.named_modules())
    for key, value in load_file(path).items():
        if key != "lora_controlnet":
            name, _, part = key.rpartition(".")
            taken = getattr(layers[name], part)
            assert torch.equal(taken.cpu(), value.to(taken.dtype)), key
    control.cleanup()
