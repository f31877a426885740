"""A whole motion module: one temporal transformer for each place in the SD1.5 UNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from .families import Family
from .temporal import TemporalAttention, TemporalTransformer

# (kind, index) as the host names a block in transformer_options["block"].
Block = tuple[str, int]

LAYERS_DOWN = 2
LAYERS_UP = 3


@dataclass(frozen=True)
class MotionModuleConfig:
    """channels: width of each UNet level, finest first. positions: longest sequence of frames it can attend to."""

    file_name: str
    family: Family
    channels: tuple[int, ...]
    positions: int
    has_mid_block: bool


class MotionLayer(nn.Module):
    def __init__(self, channels: int, config: MotionModuleConfig, **where: Any) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, config.positions, **where)


class MotionBlock(nn.Module):
    def __init__(self, layers: int, channels: int, config: MotionModuleConfig, **where: Any) -> None:
        super().__init__()
        self.motion_modules = nn.ModuleList(MotionLayer(channels, config, **where) for _ in range(layers))


class MotionModule(nn.Module):
    """Holds the temporal transformers under the key names of the published checkpoints."""

    def __init__(
        self, config: MotionModuleConfig, dtype: torch.dtype, device: torch.device, operations: Any
    ) -> None:
        super().__init__()
        where = {"dtype": dtype, "device": device, "operations": operations}
        self.config = config
        self.down_blocks = nn.ModuleList(
            MotionBlock(LAYERS_DOWN, c, config, **where) for c in config.channels
        )
        self.up_blocks = nn.ModuleList(
            MotionBlock(LAYERS_UP, c, config, **where) for c in reversed(config.channels)
        )
        self.mid_block = (
            MotionBlock(1, config.channels[-1], config, **where) if config.has_mid_block else None
        )

    def merge_projections(self, operations: Any) -> None:
        """Makes one layer of the query, key and value layers of each attention, for use; training keeps them apart.

        A step launches 84 operations less. Under dynamic VRAM the merged weights, a quarter of the module's (0.25 GB in
        fp16), stay in main memory instead of the mapped file.
        """
        for part in list(self.modules()):
            if isinstance(part, TemporalAttention):
                part.merge_projections(operations)

    def place_positions(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts all tables of positions where the features are; all are in one place."""
        for block in (*self.down_blocks, *self.up_blocks, *([self.mid_block] if self.mid_block else [])):
            for layer in cast(MotionBlock, block).motion_modules:
                cast(MotionLayer, layer).temporal_transformer.place_positions(device, dtype)

    def at(self, block: Block) -> TemporalTransformer | None:
        """The temporal transformer that follows the last attention (or residual) layer of a UNet block.

        Input blocks go 1, 2, (3 downsamples), 4, 5, (6), ...: two motion layers a level; output blocks three.
        """
        kind, index = block
        if kind == "middle":
            return self._at(self.mid_block, 0) if self.mid_block else None
        if kind == "output":
            return self._at(self.up_blocks[index // LAYERS_UP], index % LAYERS_UP)
        level, layer = divmod(index, LAYERS_DOWN + 1)
        return self._at(self.down_blocks[level], layer - 1) if layer else None

    @staticmethod
    def _at(block: nn.Module, layer: int) -> TemporalTransformer:
        return cast(MotionLayer, cast(MotionBlock, block).motion_modules[layer]).temporal_transformer


def follows_attention(block: Block, levels: int) -> bool:
    """Whether the UNet block has a SpatialTransformer, which the motion layer then follows.

    SD1.5's deepest level has none; there the motion layer follows the ResBlock.
    """
    kind, index = block
    if kind == "middle":
        return True
    level = index // (LAYERS_DOWN + 1) if kind == "input" else levels - 1 - index // LAYERS_UP
    return level < levels - 1


def last_block(levels: int) -> Block:
    """The UNet's last output block."""
    return "output", levels * LAYERS_UP - 1
