"""Where a step waits for the card, or brings something to it: found as the operations pass, with the line that asked."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from .counting import OperationCounter

# Their result's size, or the result itself, is known on the card only.
READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten._unique2")
COPIES = ("aten._to_copy", "aten.copy_")
OF_PYTORCH = str(Path(torch.__file__).parent)
HELPERS = "comfy/model_management.py"
SIGMA = 5.0  # what a read of a noise level answers: in the midst of the schedule


class WaitCounter(OperationCounter):
    """Counts operations on fake tensors, and answers where a value is read: SIGMA, one place that isn't zero, or what a check hopes for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()  # "read at sampling.py:67 predict_noise"
        self.uploads: Counter[str] = Counter()  # the same for copies to the card
        self.sizes: list[tuple[int, int]] = []  # bytes and operations of each kernel

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(function)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_card = any(tensor.is_cuda for tensor in inputs)
        if on_card and name.startswith(READS):
            self.waits[f"read at {caller()}"] += 1
        if name.startswith(("aten._local_scalar_dense", "aten.equal")):
            return answer(inputs[0]) if "scalar" in name else True
        if name.startswith("aten.nonzero"):
            return inputs[0].new_empty((1, inputs[0].ndim), dtype=torch.int64)
        before = self.total.copy()
        result = super().__torch_dispatch__(function, types, args, kwargs)
        done = self.total.minus(before)
        if done.kernels:
            self.sizes.append((done.bytes, sum(done.flops.values())))
        if name.startswith("aten.all"):
            result.is_all = True
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if name.startswith(COPIES):
            source = inputs[1] if name.startswith("aten.copy_") else inputs[0]
            self._note_copy(source, outputs[0])
        elif on_card and any(not tensor.is_cuda and tensor.ndim for tensor in inputs):
            self.uploads[f"{name.split('.')[1]} with a tensor of the CPU at {caller()}"] += 1
        return result

    def _note_copy(self, source: Tensor, target: Tensor) -> None:
        if source.is_cuda and not target.is_cuda:
            self.waits[f"copy to the CPU at {caller()}"] += 1
        elif target.is_cuda and not source.is_cuda:
            self.uploads[f"copy to the card at {caller()}"] += 1
        elif source.device != target.device:
            self.uploads[f"copy from card to card at {caller()}"] += 1


def answer(tensor: Tensor) -> Any:
    """A noise level, the count 0, or the happy answer: all are, or none is."""
    if tensor.dtype == torch.bool:
        return hasattr(tensor, "is_all")
    return SIGMA if tensor.is_floating_point() else 0


def caller() -> str:
    """The nearest line outside of PyTorch and this file, as `adapter.py:128 _strength_at`."""
    frame = sys._getframe(1)
    while frame.f_back and (
        frame.f_code.co_filename.startswith((OF_PYTORCH, __file__))
        or frame.f_code.co_filename.endswith(HELPERS)
    ):
        frame = frame.f_back
    code = frame.f_code
    return f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
