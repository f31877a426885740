"""Triton's kernels in place of PyTorch's in the motion layers, where a trial on the card at hand finds them faster."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from comfy.model_management import OOM_EXCEPTION

from .fused_blocks import can_fuse_products, fused_passes, fused_products
from .temporal import BlockRunner, TemporalTransformerBlock

log = logging.getLogger(__name__)

TRIAL_RUNS = 5
# Largest difference from PyTorch's result, as a share of what the block adds; what rounding makes of the whole comes on top.
TOLERANCE = 0.05


@dataclass(frozen=True)
class FusedKernels:
    """Runs a block of a temporal transformer, as a `BlockRunner`.

    always: without trials, for counting and testing. fastest: what trials found, by what is run: a trial is made when the
    first such block comes, and waits for the card.
    """

    always: BlockRunner | None = None
    fastest: dict[tuple, BlockRunner] = field(default_factory=dict)

    def __call__(
        self,
        block: TemporalTransformerBlock,
        x: Tensor,
        positions: Tensor,
        scale: float | Tensor,
        elements: int,
    ) -> Tensor:
        arguments = positions, scale, elements
        if torch.compiler.is_compiling() or torch.is_grad_enabled():  # the compiler makes kernels of its own
            return block(x, *arguments)
        x = x.contiguous()
        kind = *x.shape, x.dtype, x.device, isinstance(scale, Tensor)
        # Triton launches on the current card, which is the first.
        with torch.cuda.device_of(x) if torch.cuda.device_count() > 1 else nullcontext():
            if self.always is None and kind not in self.fastest:
                try:
                    self.fastest[kind] = find_fastest(block, x, *arguments)
                except OOM_EXCEPTION:
                    log.warning(
                        "Not enough memory to try fused kernels on %d channels: PyTorch's are used.",
                        x.shape[2],
                    )
                    self.fastest[kind] = TemporalTransformerBlock.__call__
            return (self.always or self.fastest[kind])(block, x, *arguments)


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


def find_fastest(
    block: TemporalTransformerBlock, x: Tensor, positions: Tensor, scale: float | Tensor, elements: int
) -> BlockRunner:
    """The fastest way to compute a block, of those that compute what PyTorch's kernels do."""
    arguments = positions, scale, elements
    ways: dict[str, BlockRunner] = {"fused passes": fused_passes, "fused products": fused_products}
    fastest: BlockRunner = TemporalTransformerBlock.__call__
    least, expected = trial(lambda: block(x.clone(), *arguments))
    times = [f"PyTorch's {least:.2f}"]
    for name, way in ways.items():
        try:
            if way is fused_products and not can_fuse_products(x, scale):
                continue
            milliseconds, found = trial(lambda way=way: way(block, x.clone(), *arguments))  # type: ignore[misc]
        except OOM_EXCEPTION:
            raise
        except Exception as error:  # a compiler's own, by its version and the card
            log.warning("Triton can't make the kernels for %s here: %s", name, error)
            continue
        if not is_same(found, expected, x):
            log.warning(
                "Motion layers with %s differ from PyTorch's on this card: not used. Please report this, with the card and "
                "the version of Triton.",
                name,
            )
            continue
        times.append(f"{name} {milliseconds:.2f}")
        if milliseconds < least:
            fastest, least = way, milliseconds
    log.info(
        "Motion layers of %d channels, in milliseconds a block: %s. The fastest is used.",
        *(x.shape[2], ", ".join(times)),
    )
    return fastest


def is_same(found: Tensor, expected: Tensor, x: Tensor) -> bool:
    """Whether two results of a block for x are the same but for rounding."""
    size = partial(torch.linalg.vector_norm, dtype=torch.float32)  # no copies in fp32
    limit = TOLERANCE * size(expected - x) + torch.finfo(x.dtype).eps * size(expected)
    return bool(size(found - expected) <= limit)


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
