"""Linear layers fused with what follows them, where the processor has such a kernel.

On x86 that is oneDNN, through the operators that torch.compile uses for the same expressions: a sum, a product or GELU
costs no extra pass over memory. In fp32 it is also faster on AMD, where the library behind `torch.nn.Linear` leaves half
of the vector unit unused (measured on one core of Zen 5: 216 against 96 GF/s; not measured on Intel).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from .host_internals import cast_bias_weight, uncast_bias_weight

HAS_ONEDNN = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()


def linear(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """layer(x)."""
    if not _uses_onednn(x):
        return layer(x)
    with _weights(layer, x) as (weight, bias):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def linear_add(layer: torch.nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """residual + layer(x)."""
    if not _uses_onednn(x):
        return layer(x).add_(residual)
    with _weights(layer, x) as (weight, bias):
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, "add")


def linear_geglu(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """value * gelu(gate), the two halves of layer(x)."""
    if not _uses_onednn(x):
        value, gate = layer(x).chunk(2, dim=-1)
        return value * F.gelu(gate) if torch.is_grad_enabled() else F.gelu(gate).mul_(value)
    with _weights(layer, x) as (weight, bias):
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
def _weights(layer: torch.nn.Module, x: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The layer's weight and bias as x needs them: moved, cast and patched by the host, as in the layer's own call."""
    weight, bias, stream = cast_bias_weight(layer, x, offloadable=True)
    yield weight, bias
    uncast_bias_weight(layer, weight, bias, stream)
