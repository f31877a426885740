"""A card that isn't there: what PyTorch asks of a CUDA driver, and tensors that have a shape, a type and a device only.

The host and the packs run unchanged on it, from reading the files to the sampler. Nothing is computed, so a
step at full size takes a second and no memory; what it would do on a card can be counted.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.utils
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

GIBIBYTE = 2**30
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


class FakeCuda(FakeTensorMode):
    """Never touches a device, although CUDA calls itself available."""

    avoid_device_init = True  # type: ignore[assignment]


class Stream:
    """Work is done at once, in order."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = torch.device("cuda", 0)

    def wait_stream(self, _: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


def use_fake_cuda(free: float = 78.0, total: float = 80.0, cards: int = 1) -> None:
    """Answers for the driver of an H100 with this much memory, in GiB. To be called before the host is imported."""
    properties = SimpleNamespace(
        name="fake H100", major=9, minor=0, total_memory=int(total * GIBIBYTE), multi_processor_count=132
    )
    stream = Stream()
    answers: dict[str, Any] = {
        "is_available": True, "device_count": cards, "current_device": 0, "set_device": None,
        "get_device_properties": properties, "get_device_name": properties.name,
        "get_device_capability": (9, 0), "is_bf16_supported": True, "current_stream": stream,
        "mem_get_info": (int(free * GIBIBYTE), int(total * GIBIBYTE)), "memory_stats": defaultdict(int),
        "synchronize": None, "empty_cache": None, "ipc_collect": None, "get_allocator_backend": "native",
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.cuda.Stream = Stream  # type: ignore[assignment, misc]
    torch.cuda.stream = in_stream  # type: ignore[assignment]
    torch.nn.functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
    # Module.to swaps fake parameters in place and refuses those that anything refers to weakly; here it may.
    torch.utils.weakref = SimpleNamespace(getweakrefs=lambda _: [])  # type: ignore[attr-defined]
    safetensors.safe_open = safetensors.torch.safe_open = EmptyFile  # type: ignore[assignment, misc, attr-defined]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    *_: Any,
    scale: float | None = None,
    **__: Any,
) -> Tensor:
    """F.scaled_dot_product_attention with the kernel that PyTorch takes on such a card; to choose, it asks the driver."""
    if q.dtype in (torch.float16, torch.bfloat16) and attn_mask is None:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[0]
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    return efficient(q, k, v, attn_mask, False, scale=scale)[0]


@contextmanager
def in_stream(_: Any) -> Iterator[None]:
    yield


class EmptyFile:
    """safetensors.safe_open, of the header alone: tensors come without their values."""

    def __init__(self, path: Any, *_: Any, **__: Any) -> None:
        with Path(path).open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            self.header = json.loads(file.read(length))
        self._metadata = self.header.pop("__metadata__", None)

    def __enter__(self) -> EmptyFile:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def metadata(self) -> dict[str, str] | None:
        return self._metadata

    def keys(self) -> list[str]:
        return list(self.header)

    offset_keys = keys

    def get_tensor(self, key: str) -> Tensor:
        entry = self.header[key]
        return torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]])


def write_header(path: Path, shapes: Mapping[str, torch.Size], metadata: dict[str, str]) -> None:
    """A safetensors file in fp16 of the full length; its data is a hole that takes no room on the disk."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * shape.numel()
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + end)
