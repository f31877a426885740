"""Linear readouts: small heads that must tell something from features, so that the features keep it. Used in training only.

A camera that zooms or rolls moves each place of the picture differently. For that the motion module must know where a
place is, but the UNet's features hardly tell it: a linear readout explained 12 to 35 % of the variance of x and y at 8x8
places, and neither LoRAs nor a whole motion module learned to zoom. Trained to tell, they explain 85 % in the UNet's first
layer and at least 92 % in all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

from ...motion_modules.adapter import LAYER_PATCH, follows_attention
from ...motion_modules.model import Block, MotionModule
from ...motion_modules.temporal import NORM_GROUPS, TemporalTransformerBlock
from .networks import make_motion_module
from .weights import CHANNELS


class PlaceReadouts(nn.Module):
    """Tell from the UNet's features, where the motion module gets them, the x and y of each of them in the picture."""

    def __init__(self) -> None:
        super().__init__()
        self._widths = _layer_widths()
        self._found: dict[Block, Tensor] = {}
        self.heads = nn.ModuleDict(
            {_key(block): nn.Conv2d(width, 2, 1) for block, width in self._widths.items()}
        )
        for head in self.heads.values():
            _zero(head)

    def patches(self) -> dict[str, Any]:
        """Patches for the UNet that keep the features of its next call."""
        self._found.clear()
        return {LAYER_PATCH: [((ResBlock, SpatialTransformer), self._layer)]}

    def _layer(
        self, layer: nn.Module, x: Tensor, emb: Tensor, context: Tensor, options: dict[str, Any], *_: Any
    ) -> Tensor:
        """The layer as it is; called by the host in its place."""
        is_attention = isinstance(layer, SpatialTransformer)
        x = layer(x, context, options) if is_attention else layer(x, emb)
        block = options["block"]
        if (
            block in self._widths
            and is_attention == follows_attention(block, len(CHANNELS))
            and x.shape[-1] > 1
        ):
            self._found[block] = x
        return x

    def loss(self) -> Tensor:
        """The unexplained share of the variance of x and y, averaged over the layers."""
        losses = []
        for block, x in self._found.items():
            side = x.shape[-1]
            middles = torch.linspace(-1, 1, side, device=x.device)
            places = torch.stack(torch.meshgrid(middles, middles, indexing="xy"))
            told = self.heads[_key(block)](F.group_norm(x.float(), NORM_GROUPS))
            losses.append((told - places).square().mean() / middles.var(unbiased=False))
        self._found.clear()
        return torch.stack(losses).mean()


def _layer_widths() -> dict[Block, int]:
    """Channels of the blocks that a motion module has a layer for."""
    module = make_motion_module(None)
    blocks = [(kind, number) for kind in ("input", "output") for number in range(3 * len(CHANNELS))]
    layers = {block: module.at(block) for block in [*blocks, ("middle", 1)]}
    return {block: layer.norm.num_channels for block, layer in layers.items() if layer is not None}


def _key(block: Block) -> str:
    return f"{block[0]}_{block[1]}"


class FlowReadouts(nn.Module):
    """Tell from the features within a motion module where the content of each place goes.

    The heads are the same for all cameras: what a pan has taught the module to do with a flow then serves the zoom, which
    gives each place a flow of its own. Rolls were not learnt in 1,300 steps without readouts, and were learnt with them.
    """

    def __init__(self, module: MotionModule) -> None:
        super().__init__()
        blocks = [part for part in module.modules() if isinstance(part, TemporalTransformerBlock)]
        self.heads = nn.ModuleList(nn.Linear(block.ff_norm.normalized_shape[0], 2) for block in blocks)
        self._found: dict[int, Tensor] = {}
        self._listening = False
        for number, block in enumerate(blocks):
            _zero(self.heads[number])
            block.ff_norm.register_forward_hook(self._keep(number))

    def _keep(self, number: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
            if self._listening:
                self._found[number] = output

        return hook

    def listen(self) -> None:
        """Keeps the features of the module's calls until `loss`; of several calls the last counts."""
        self._found.clear()
        self._listening = True

    def loss(self, clips: int, flow: Callable[[int], tuple[Tensor, Tensor]]) -> Tensor:
        """Mean squared error of the flow, averaged over the layers. Errors: RuntimeError without a call since `listen`.

        Args:
            clips: how many of them the call was for.
            flow: gives, for a number of places to a side, the flow, (n, f, side, side, 2) or such that it broadcasts so,
                and the places' weights, (n, f, side, side, 1), 1 on average.
        """
        self._listening = False
        if not self._found:
            raise RuntimeError(
                "The flow readouts heard nothing: call listen(), then the module, then loss()."
            )
        losses = []
        for number, tokens in self._found.items():  # (clips * side * side, f, channels)
            side = round((tokens.shape[0] / clips) ** 0.5)
            if side > 1:
                told = (
                    self.heads[number](tokens.float()).view(clips, side, side, -1, 2).permute(0, 3, 1, 2, 4)
                )
                expected, weights = (part.to(tokens.device) for part in flow(side))
                losses.append(((told - expected).square() * weights).mean())
        self._found.clear()
        return torch.stack(losses).mean()


def _zero(head: nn.Module) -> None:
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
