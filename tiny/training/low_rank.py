"""LoRAs that are being trained: low-rank changes to a network's weights, as the host would patch them in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..shipped import Weights


class LowRank(nn.Module):
    """weight + strength * up @ down. down: (rank, in, ...), up: (out, rank); zero at first."""

    def __init__(self, weight: Tensor, rank: int, rng: torch.Generator) -> None:
        super().__init__()
        fan_in = weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, *weight.shape[1:], generator=rng) * fan_in**-0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))
        self.strength = 1.0

    def forward(self, weight: Tensor) -> Tensor:
        if not self.strength:
            return weight
        return weight + self.strength * (self.up @ self.down.flatten(1)).view_as(weight)


class LowRankSet(nn.Module):
    """The low-rank changes to some layers of a network; `names` are those layers' names within it."""

    def __init__(self, network: nn.Module, names: list[str], rank: int, rng: torch.Generator) -> None:
        super().__init__()
        self.names = names
        self.parts = nn.ModuleList()
        for name in names:
            layer = network.get_submodule(name)
            part = LowRank(layer.weight.detach(), rank, rng).to(layer.weight.device)
            parametrize.register_parametrization(layer, "weight", part)
            layer.parametrizations.weight.original.requires_grad_(False)
            self.parts.append(part)

    def set_strength(self, strength: float) -> None:
        for part in self.parts:
            part.strength = strength

    def at(self, name: str) -> LowRank:
        """The change to a layer."""
        return self.parts[self.names.index(name)]

    def weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Down and up of each layer; up has the kernel dimensions of its layer's weight, of size 1."""
        found = {}
        for name, part in zip(self.names, self.parts, strict=True):
            kernel = (1,) * (part.down.ndim - 2)
            found[name] = (part.down.detach(), part.up.detach().view(*part.up.shape, *kernel))
        return found


def motion_lora_names(module: nn.Module) -> list[str]:
    """Every projection of every attention of a motion module."""
    return [
        name for name, _ in module.named_modules() if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0"))
    ]


def motion_lora_file(lora: dict[str, tuple[Tensor, Tensor]]) -> Weights:
    """Under guoyww's original names, without alpha."""
    weights = {}
    for name, (down, up) in lora.items():
        place, projection = name.removesuffix(".0").rsplit(".", 1)
        weights[f"{place}.processor.{projection}_lora.down.weight"] = down
        weights[f"{place}.processor.{projection}_lora.up.weight"] = up
    return weights


def motion_lora_weights(file: Weights) -> dict[str, tuple[Tensor, Tensor]]:
    """The opposite of `motion_lora_file`."""
    lora = {}
    for key, down in file.items():
        if key.endswith("_lora.down.weight"):
            place, projection = key.removesuffix("_lora.down.weight").split(".processor.")
            name = f"{place}.{projection}" + (".0" if projection == "to_out" else "")
            lora[name] = down, file[key.replace("_lora.down.", "_lora.up.")]
    return lora


def unet_lora_names(diffusers_names: dict[str, str]) -> dict[str, str]:
    """Layers of the UNet that LCM-LoRA changes, as {name in the UNet: name in diffusers}.

    Sorted: the order of the host's table differs between processes, and a continued training needs the same one.
    """
    return {
        key.removesuffix(".weight"): name.removesuffix(".weight")
        for name, key in sorted(diffusers_names.items())
        if name.endswith(".weight") and (".attentions." in name or ".resnets." in name)
    }


def unet_lora_file(lora: dict[str, tuple[Tensor, Tensor]], diffusers_names: dict[str, str]) -> Weights:
    """Under kohya's names, with alpha = rank."""
    weights = {}
    for name, (down, up) in lora.items():
        prefix = "lora_unet_" + diffusers_names[name].replace(".", "_")
        weights |= {f"{prefix}.lora_down.weight": down, f"{prefix}.lora_up.weight": up}
        weights[f"{prefix}.alpha"] = torch.tensor(float(down.shape[0]))
    return weights
