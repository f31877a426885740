"""torch.compile for the temporal transformers alone: places of one width share a graph, the UNet stays the host's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .temporal import TemporalTransformer


def compiled_transformer(backend: str | Callable = "inductor") -> Callable:
    """TemporalTransformer.forward, compiled at its first call with numbers for strength and motion_scale.

    Both are tensors in the graph, so that no value is frozen into it or costs another. Layers whose weights the host
    brings or patches at each use, with too little memory for all, run as they are: such weights would break the graph.

    Errors: RuntimeError where the compiler is missing or fails.
    """
    compiled = torch.compile(TemporalTransformer.forward, backend=backend)

    def run(
        transformer: TemporalTransformer, x: Tensor, frames: int, strength: float, motion_scale: float
    ) -> Tensor:
        if not _has_weights_at_hand(transformer, x.device):
            return transformer(x, frames, strength, motion_scale)
        values = (torch.full((), value, device=x.device) for value in (strength, motion_scale))
        try:
            return compiled(transformer, x, frames, *values)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise RuntimeError(
                "compile_motion: PyTorch could not compile the motion layers. It needs a C++ compiler, and Triton on a GPU. "
                f"Install them, or switch compile_motion of Apply Motion Module off. PyTorch says: {error}"
            ) from error

    return run


def _has_weights_at_hand(transformer: TemporalTransformer, device: torch.device) -> bool:
    return all(weight.device == device for weight in transformer.parameters()) and not any(
        hasattr(part, "_v") or getattr(part, "weight_function", ()) or getattr(part, "bias_function", ())
        for part in transformer.modules()
    )
