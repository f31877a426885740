"""Triton's kernels in place of PyTorch's in the motion layers, where a trial on the card at hand finds them faster."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from .projections import cast_once, linear
from .temporal import GEGLU, HEADS, TemporalAttention, TemporalTransformerBlock, attend, temperature

log = logging.getLogger(__name__)

TRIAL_RUNS = 5
# Largest relative difference from PyTorch's result: twice what rounding to bf16 makes of a block.
TOLERANCE = 0.02

# Channels, sequences, frames and type of the features of a block.
Shape = tuple[int, int, int, torch.dtype]


@dataclass(frozen=True)
class FusedKernels:
    """Runs a block of a temporal transformer, as `BlockRunner` has it.

    faster: what trials found, by shape; a trial is made when a shape is first met, and waits for the card.
    always: without trials, for counting and testing.
    """

    always: bool = False
    faster: dict[Shape, bool] = field(default_factory=dict)

    def __call__(
        self,
        block: TemporalTransformerBlock,
        x: Tensor,
        positions: Tensor,
        scale: float | Tensor,
        elements: int,
    ) -> Tensor:
        arguments = positions, scale, elements
        if torch.compiler.is_compiling():  # which makes kernels of its own
            return block(x, *arguments)
        shape = x.shape[2], x.shape[0], x.shape[1], x.dtype
        if not self.always and shape not in self.faster:
            self.faster[shape] = self._is_faster(block, x, *arguments)
        return (
            fused_block(block, x, *arguments) if self.always or self.faster[shape] else block(x, *arguments)
        )

    def _is_faster(self, block: TemporalTransformerBlock, x: Tensor, *arguments: Any) -> bool:
        try:
            ours, found = trial(lambda: fused_block(block, x.clone(), *arguments))
        except Exception as error:  # a compiler's own, by its version and the card
            log.warning("Triton can't make the fused kernels here, PyTorch's are used: %s", error)
            return False
        theirs, expected = trial(lambda: block(x.clone(), *arguments))
        difference = float((found - expected).float().norm() / expected.float().norm())
        if not difference <= TOLERANCE:
            log.warning(
                "The fused kernels differ from PyTorch's by %.2g on this card and are not used. Please report this, with "
                "the card and the version of Triton.",
                difference,
            )
            return False
        log.info(
            "Fused kernels, %d channels: %.2f times as fast as PyTorch's: %s.",
            *(x.shape[2], theirs / ours, "used" if ours < theirs else "not used"),
        )
        return ours < theirs


def fused_kernels(device: torch.device) -> FusedKernels | None:
    """None where there is no such card or no Triton, with a warning in the log."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        return FusedKernels()
    log.warning(
        "fused_kernels has no effect: %s",
        "Triton is not installed; it comes with PyTorch on Linux, and as triton-windows."
        if device.type == "cuda"
        else f"it needs an NVIDIA or AMD GPU, and this model runs on {device.type}.",
    )
    return None


def trial(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Milliseconds of a run on the card, and its result; the first runs, which compile, don't count."""
    result = run()
    run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(TRIAL_RUNS):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / TRIAL_RUNS, result


def fused_block(
    block: TemporalTransformerBlock, x: Tensor, positions: Tensor, motion_scale: float | Tensor, elements: int
) -> Tensor:
    """block(x, ...), in six kernels less; overwrites x (n, f, c)."""
    from . import triton_kernels as kernels

    first, second = (cast(TemporalAttention, attention) for attention in block.attention_blocks)
    widen, narrow = cast(GEGLU, block.ff.net[0]).proj, block.ff.net[2]
    h = kernels.norm(x, *_norm(block.norms[0], x), positions)
    h = kernels.add_norm(x, _attended(first, h, motion_scale), *_norm(block.norms[1], x), positions, None)
    with cast_once(widen, x) as widen, cast_once(narrow, x) as (weight, bias):
        # The bias is added here, as the product below is added to x in place, which leaves no room for one.
        h = kernels.add_norm(x, _attended(second, h, motion_scale), *_norm(block.ff_norm, x), None, bias)
        parts = block.ff.parts(x, elements)
        for some_x, some_h in zip(x.chunk(parts), h.chunk(parts), strict=True):
            wide = kernels.geglu(linear(widen, some_h))
            some_x.flatten(0, 1).addmm_(wide.flatten(0, 1), weight.t())
    return x


def _attended(attention: TemporalAttention, h: Tensor, motion_scale: float | Tensor) -> Tensor:
    from . import triton_kernels as kernels

    qkv = linear(attention.to_qkv, h)
    channels, frames = h.shape[-1], h.shape[1]
    if frames > kernels.MOST_FRAMES:
        q, k, v = qkv.chunk(3, dim=-1)
        mixed = attend(q, k, v, motion_scale)
    else:
        if isinstance(motion_scale, Tensor):
            qkv[..., :channels] *= motion_scale.view(-1, 1).to(qkv.dtype)
            motion_scale = 1.0
        mixed = kernels.attention(qkv, HEADS, temperature(channels, motion_scale))
    return linear(attention.to_out[0], mixed)


def _norm(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Weight, bias and epsilon."""
    with cast_once(layer, x) as (weight, bias):
        assert bias is not None
        return weight, bias, cast(nn.LayerNorm, layer).eps
