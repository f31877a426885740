"""Linear layers fused with what follows them, where the processor has such a kernel.

On x86 that is oneDNN, through the operators that torch.compile uses for the same expressions: a sum, a product or GELU
costs no extra pass over memory. In fp32 it is also faster on AMD, where the library behind `torch.nn.Linear` leaves half
of the vector unit unused (measured on one core of Zen 5: 216 against 96 GF/s; not measured on Intel).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .host_internals import cast_bias_weight, uncast_bias_weight

HAS_ONEDNN = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()


class CastLayer(NamedTuple):
    """A layer's weight and bias, ready for use."""

    weight: Tensor
    bias: Tensor | None


Layer = torch.nn.Module | CastLayer


def linear(layer: Layer, x: Tensor) -> Tensor:
    """layer(x)."""
    if not _uses_onednn(x):
        return F.linear(x, *layer) if isinstance(layer, CastLayer) else layer(x)
    with cast_once(layer, x) as (weight, bias):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def linear_add(layer: Layer, x: Tensor, residual: Tensor) -> Tensor:
    """residual + layer(x)."""
    if not _uses_onednn(x):
        return linear(layer, x).add_(residual)
    with cast_once(layer, x) as (weight, bias):
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, "add")


def add_linear(layer: Layer, x: Tensor, residual: Tensor) -> None:
    """residual += layer(x), in place."""
    if _uses_onednn(x):
        residual.copy_(linear_add(layer, x, residual))
    else:
        residual.add_(linear(layer, x))


def linear_geglu(layer: Layer, x: Tensor) -> Tensor:
    """value * gelu(gate), the two halves of layer(x)."""
    if not _uses_onednn(x):
        value, gate = linear(layer, x).chunk(2, dim=-1)
        return value * F.gelu(gate) if torch.is_grad_enabled() else F.gelu(gate).mul_(value)
    with cast_once(layer, x) as (weight, bias):
        value_weight, gate_weight = weight.chunk(2)
        value_bias, gate_bias = (None, None) if bias is None else bias.chunk(2)
        gate = torch.ops.mkldnn._linear_pointwise(x, gate_weight, gate_bias, "gelu", [], "none")
        return torch.ops.mkldnn._linear_pointwise.binary(x, gate, value_weight, value_bias, "mul")


def _uses_onednn(x: Tensor) -> bool:
    """oneDNN's operators know no gradients, autocast or tracing."""
    if not HAS_ONEDNN or x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    is_supported = x.dtype == torch.float32 or (
        x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return is_supported and not torch.is_autocast_enabled("cpu")


@contextmanager
def cast_once(layer: Layer, x: Tensor) -> Iterator[CastLayer]:
    """The layer's weight and bias as x needs them: moved, cast and patched by the host, as in the layer's own call."""
    if isinstance(layer, CastLayer):
        yield layer
        return
    weight, bias, stream = cast_bias_weight(layer, x, offloadable=True)
    try:
        yield CastLayer(weight, bias)
    finally:
        uncast_bias_weight(layer, weight, bias, stream)
