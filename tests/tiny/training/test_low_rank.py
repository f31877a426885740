"""LoRAs in training and as files: the pack's loader makes the change that training made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import comfy.sd
import comfy.utils
from fast_animatediff.motion_modules.lora import load_motion_lora
from fast_animatediff.tiny.domain.scenes import seeded
from fast_animatediff.tiny.extension.family import UNET
from fast_animatediff.tiny.shipped import (
    opposite,
)
from fast_animatediff.tiny.training.cameras import (
    CameraLora,
)
from fast_animatediff.tiny.training.low_rank import LowRank, unet_lora_names
from fast_animatediff.tiny.training.networks import (
    make_motion_module,
)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_motion_lora_files_of_an_axis_change_the_module_as_training_did(
    tmp_path: Path, sign: float
) -> None:
    module = make_motion_module(None).requires_grad_(False)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    lora = CameraLora(module, 4, "seed")
    for number, part in enumerate([*lora.common.parts, *lora.direction.parts]):
        torch.nn.init.normal_(part.up, generator=seeded("up", number))
    file = {key: value.detach().contiguous() for key, value in lora.file().items()}
    save_file(file if sign > 0 else opposite(file), tmp_path / "lora.safetensors")
    lora.set_strength(1.0, sign)
    loaded = load_motion_lora(str(tmp_path / "lora.safetensors"), 1.0)
    assert len(loaded.layers) == 21 * 2 * 4
    for layer in loaded.layers:
        change = loaded.weights[f"{layer}.lora_up.weight"] @ loaded.weights[f"{layer}.lora_down.weight"]
        assert change.abs().max() > 0.01
        trained = module.get_submodule(layer).weight
        assert torch.allclose(trained, before[f"{layer}.weight"] + change, atol=1e-5), layer


def test_a_camera_lora_comes_back_from_its_file_and_another_is_refused(tmp_path: Path) -> None:
    one, other = (CameraLora(make_motion_module(None), 4, seed) for seed in ("one", "other"))
    for number, part in enumerate(part for part in one.modules() if isinstance(part, LowRank)):
        torch.nn.init.normal_(part.up, generator=seeded("up", number))
    save_file({key: value.contiguous() for key, value in one.file().items()}, tmp_path / "one.safetensors")
    other.load(tmp_path / "one.safetensors")
    for (name, expected), found in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(found, expected), name
    with pytest.raises(
        ValueError, match="one.safetensors holds a LoRA .* rank than 8: delete it and train its stage again"
    ):
        CameraLora(make_motion_module(None), 8, "third").load(tmp_path / "one.safetensors")


def test_the_layers_of_the_turbo_lora_have_one_order_whatever_that_of_the_hosts_table() -> None:
    """Its parts are saved by number; the host's table has another order in each process."""
    table = comfy.utils.unet_to_diffusers(UNET)
    reversed_table = dict(reversed(table.items()))
    assert list(table) != list(reversed_table)
    assert list(unet_lora_names(table)) == list(unet_lora_names(reversed_table))
