"""The tensor that frames are written to, in little more memory than it takes itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .container import Limits


class FrameBuffer:
    """Collects frames of one size; `finish` returns them as images [n, height, width, 3] and a mask.

    Bytes stay bytes until then, at the beginning of the memory of the finished tensor. So the decoder's own frames
    may take as much as the rest of that memory before the total exceeds it. A mask is made at the first picture that
    is not opaque.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        limits: Limits,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.count = self.capacity = 0
        self.size, self._name, self._limits = size, name, limits
        self._images = torch.empty((0, size[1], size[0], 3), dtype=dtype, device=device)
        self._mask: Tensor | None = None
        self._bytes = True

    @property
    def most(self) -> int:
        """How many frames the limits allow; at least one is tried."""
        fit = self._limits.max_frames
        if self._limits.max_bytes is not None:
            fit = min(fit, self._limits.max_bytes // self._bytes_of(1))
        return max(1, fit)

    def reserve(self, frames: int) -> None:
        """Makes room for `frames` frames; ValueError when that passes a limit."""
        self._check(frames)
        self._images = self._resized(self._images, frames)
        if self._mask is not None:
            self._mask = self._resized(self._mask, frames)
        self.capacity = frames

    def add(self, picture: np.ndarray | Tensor, repeats: int) -> None:
        """Writes a picture `repeats` times: uint8 or a tensor in 0..1, [height, width, 3], or 4 with alpha."""
        if self.count + repeats > self.capacity:
            self.reserve(max(self.count + repeats, min(2 * self.capacity, self.most)))
        rows = slice(self.count, self.count + repeats)
        self.count += repeats
        self._bytes = not isinstance(picture, Tensor)
        values = picture if isinstance(picture, Tensor) else torch.from_numpy(np.ascontiguousarray(picture))
        opaque = 255 if self._bytes else 1
        self._stored(self._images)[rows] = values[..., :3]
        if self._mask is None and values.shape[-1] == 4:
            self._mask = self._images.new_zeros(self._images.shape[:3])
            self._check(self.capacity)
        if self._mask is not None:
            self._stored(self._mask)[rows] = opaque - values[..., 3] if values.shape[-1] == 4 else 0

    def finish(self) -> tuple[Tensor, Tensor | None]:
        """The images, and the mask where there is alpha: 1 where the frame is transparent."""
        images = self._images[: self.count]
        mask = None if self._mask is None else self._mask[: self.count]
        if self._bytes:
            _widen(images)
            if mask is not None:
                _widen(mask)
        return images, mask

    def _resized(self, old: Tensor, frames: int) -> Tensor:
        new = torch.empty((frames, *old.shape[1:]), dtype=old.dtype, device=old.device)
        self._stored(new)[: self.count] = self._stored(old)[: self.count]
        return new

    def _stored(self, frames: Tensor) -> Tensor:
        """Where pictures are written to: bytes, as long as they stay bytes."""
        return _levels(frames) if self._bytes else frames

    def _check(self, frames: int) -> None:
        self._limits.check_frames(self._name, frames, self.size, self._bytes_of(1))

    def _bytes_of(self, frames: int) -> int:
        channels = 3 if self._mask is None else 4
        return frames * self.size[0] * self.size[1] * channels * self._images.itemsize


def _levels(frames: Tensor) -> Tensor:
    """As many frames of bytes, at the beginning of the memory of a contiguous tensor [n, ...]."""
    return frames.view(-1).view(torch.uint8)[: frames.numel()].view(frames.shape)


def _widen(frames: Tensor) -> None:
    """Turns the bytes into numbers in 0..1 where they lie; backwards, so that none is overwritten before its turn."""
    levels = _levels(frames)
    for index in reversed(range(len(frames))):
        frames[index].copy_(levels[index].clone()).div_(255)
