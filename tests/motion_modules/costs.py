"""Counts what a piece of PyTorch code costs on any device, without running it there: kernels, bytes, peak memory.

A kernel is an operator that writes; views are free. Its bytes are those of each tensor that it reads and writes, once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALLOCATIONS = ("empty", "empty_strided", "empty_like", "new_empty", "_scaled_dot_product_choice")


class Costs(TorchDispatchMode):
    """kernels: names in order. bytes: moved. peak: most bytes alive at once of what was made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[str] = []
        self.bytes = 0
        self.peak = 0
        self._alive = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, operator: Any, types: Any, arguments: tuple = (), options: dict | None = None
    ) -> Any:
        result = operator(*arguments, **(options or {}))
        read = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
        written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        known = {_storage(tensor) for tensor in read}
        new = [tensor for tensor in written if _storage(tensor) not in known]
        name = operator.overloadpacket.__name__
        if (new and name not in ALLOCATIONS) or operator._schema.is_mutable:
            self.kernels.append(name)
            self.bytes += sum(_moved(tensor) for tensor in read + written)
        for tensor in new:
            self._remember(tensor)
        return result

    def _remember(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(storage._cdata)
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, storage: int, size: int) -> None:
        self._alive -= size
        self._seen.discard(storage)


def costs_of(function: Callable[[], Any]) -> Costs:
    with torch.inference_mode(), Costs() as costs:
        function()
    return costs


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _moved(tensor: Tensor) -> int:
    """A broadcast dimension is read once."""
    size = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        size *= length if stride else 1
    return size
