"""What a machine is and can do at best, and how much of its memory a process has had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from .recording import Clock


def machine(device: str) -> dict[str, Any]:
    """Versions, and the rate of a matrix product of this UNet's kind in each precision, in operations a second."""
    import comfyui_version

    name = torch.cuda.get_device_name() if device == "cuda" else None
    rates = {
        dtype: product_rate(device, getattr(torch, dtype)) for dtype in ("float32", "bfloat16", "float16")
    }
    versions = {
        "torch": torch.__version__,
        "ComfyUI": comfyui_version.__version__,
        "Python": sys.version.split()[0],
    }
    return {"gpu": name, "rates": rates, "versions": versions}


def product_rate(device: str, dtype: torch.dtype) -> float:
    """The best of some runs of two libraries, linear and 1x1 convolution: a ceiling, not a mean."""
    if device == "cpu" and dtype == torch.float16:
        return 0.0  # no processor here is fast at it, and one run would take long
    side, k, n = (90, 8192, 8192) if device == "cuda" else (64, 640, 1920)
    x = torch.randn(1, k, side, side, device=device, dtype=dtype)
    weight = torch.randn(n, k, device=device, dtype=dtype)
    tokens = x.flatten(2)[0].t().contiguous()
    products = (
        lambda: torch.nn.functional.linear(tokens, weight),
        lambda: torch.nn.functional.conv2d(x, weight[..., None, None]),
    )
    clock, best = Clock(device), float("inf")
    for product in products * 6:
        start = clock.now()
        product()
        end = clock.now()
        clock.wait()
        best = min(best, clock.between(start, end))
    return 2 * side**2 * k * n / best


def process_peak(reset: bool = False) -> int:
    """The most memory this process has had since the last reset, in bytes; Linux only, 0 elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
