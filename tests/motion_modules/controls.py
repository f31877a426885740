"""Small ControlNets of the host's own classes, with random weights for the UNet of `components`."""

from __future__ import annotations

import components
import torch
from torch import Tensor

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import comfy.t2i_adapter.adapter
from comfy.controlnet import ControlBase

SIZE = 64  # of a hint for the 8 x 8 latents of the tests


def hints(count: int, size: int = SIZE, seed: int = 11) -> Tensor:
    """(count, 3, size, size), each another picture."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def network(seed: int = 21) -> torch.nn.Module:
    config = components.sd15_config()
    del config["out_channels"]
    found = comfy.cldm.cldm.ControlNet(
        **config, hint_channels=3, operations=comfy.ops.disable_weight_init, device=components.CPU
    )
    components.randomize(found, seed)
    return found.eval().requires_grad_(False)


def controlnet(seed: int = 21) -> ControlBase:
    return comfy.controlnet.ControlNet(network(seed), load_device=components.CPU)


def control_lora(seed: int = 22) -> ControlBase:
    """The UNet's weights with a low-rank change here, and the parts that the UNet lacks."""
    own = ("input_hint_block.", "zero_convs.", "middle_block_out.")
    weights = {k: v for k, v in network(seed).state_dict().items() if k.startswith(own)}
    generator = torch.Generator().manual_seed(seed)
    weights["time_embed.0.up"] = torch.randn(128, 4, generator=generator) * 0.1
    weights["time_embed.0.down"] = torch.randn(4, 32, generator=generator) * 0.1
    return comfy.controlnet.ControlLora(weights | {"lora_controlnet": torch.tensor([])})


def t2i_adapter(seed: int = 23) -> ControlBase:
    adapter = comfy.t2i_adapter.adapter.Adapter(
        channels=[*components.CHANNELS], nums_rb=1, cin=3 * 64, ksize=1, sk=True, use_conv=False, xl=False
    )
    components.randomize(adapter, seed)
    return comfy.controlnet.T2IAdapter(adapter.requires_grad_(False), 3, 8, "nearest-exact")


class Index(torch.nn.Module):
    """A network whose output is its hint's brightness: with `numbered` hints, the number of the hint."""

    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, x: Tensor, hint: Tensor, **_: object) -> dict[str, list[Tensor]]:
        self.calls.append(len(hint))
        numbers = hint.expand(len(x), -1, -1, -1).mean(dim=(1, 2, 3)).view(-1, 1, 1, 1)
        return {"input": [], "middle": [numbers.expand(-1, 128, 1, 1).clone()], "output": []}


def index_control() -> ControlBase:
    return comfy.controlnet.ControlNet(Index(), load_device=components.CPU)


def numbered(count: int) -> Tensor:
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 3, SIZE, SIZE)
