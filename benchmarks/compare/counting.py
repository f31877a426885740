"""Counts that load cannot disturb: kernels, bytes, floating-point operations and the peak of live tensors."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count, shape_wrapper

# They make room, or ask, but move nothing.
NO_KERNEL = ("aten.empty", "aten.new_empty", "aten._local_scalar_dense", "aten.is_", "prim.")


def linear_flops(x: tuple[int, ...], weight: tuple[int, ...], *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def attention_flops(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


# PyTorch's formulas, and those that it lacks: a product added in place; of a CPU attention, and oneDNN's linear layers.
FORMULAS: dict[Any, Callable[..., int]] = {**flop_registry}
FORMULAS[torch.ops.aten.addmm_] = FORMULAS[torch.ops.aten.addmm]
FORMULAS[torch.ops.aten._scaled_dot_product_flash_attention_for_cpu] = shape_wrapper(attention_flops)
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    FORMULAS[torch.ops.mkldnn._linear_pointwise] = shape_wrapper(linear_flops)


@dataclass
class Counts:
    """kernels: operations that are not views. bytes: what they read and write. flops: by the type they compute in."""

    kernels: int = 0
    bytes: int = 0
    flops: Counter[str] = field(default_factory=Counter)

    def minus(self, other: Counts) -> Counts:
        return Counts(self.kernels - other.kernels, self.bytes - other.bytes, self.flops - other.flops)

    def plus(self, other: Counts) -> Counts:
        return Counts(self.kernels + other.kernels, self.bytes + other.bytes, self.flops + other.flops)

    def copy(self) -> Counts:
        return Counts(self.kernels, self.bytes, self.flops.copy())

    def as_dict(self) -> dict[str, Any]:
        return {"kernels": self.kernels, "bytes": self.bytes, "flops": dict(self.flops)}


class OperationCounter(TorchDispatchMode):
    """Counts each operation that reaches a backend.

    A fused attention is one kernel; what a library does inside one operation (packing, workspace) is not seen. Live
    are the tensors made while counting, views counted once with their storage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = Counts()
        self.live = 0
        self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if not is_view(function, inputs, outputs) and not str(function).startswith(NO_KERNEL):
            self.total.kernels += 1
            written = [tensor for tensor in written_inputs(function, args) if tensor not in set(outputs)]
            self.total.bytes += sum(size_of(tensor) for tensor in (*inputs, *outputs, *written))
            self._count_flops(function, args, kwargs, result, inputs)
        for tensor in outputs:
            self._watch(tensor)
        return result

    def _count_flops(
        self, function: Any, args: tuple, kwargs: dict, result: Any, inputs: list[Tensor]
    ) -> None:
        formula = FORMULAS.get(function.overloadpacket)
        if formula and inputs:
            name = str(inputs[-1].dtype).removeprefix("torch.")
            self.total.flops[name] += formula(*args, **kwargs, out_val=result)

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known or tensor.device.type == "meta" and storage.nbytes() == 0:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.live -= size


def written_inputs(function: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """What an operation changes in place; the last of PyTorch's own also return it."""
    places = zip(function._schema.arguments, args, strict=False)
    return [arg for place, arg in places if place.alias_info and place.alias_info.is_write]


def is_view(function: Any, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether an operation only describes its input anew. In-place operations write, so they are not views."""
    returns = function._schema.returns
    writes = any(a.alias_info and a.alias_info.is_write for a in function._schema.arguments)
    if writes or not outputs:
        return False
    if any(r.alias_info is not None for r in returns):
        return True
    owned = {tensor.untyped_storage()._cdata for tensor in inputs}
    return bool(owned) and all(tensor.untyped_storage()._cdata in owned for tensor in outputs)


def size_of(tensor: Tensor) -> int:
    """Bytes of the elements that exist: an expanded dimension is read once."""
    count = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= length if stride or length == 0 else 1
    return count * tensor.element_size()
