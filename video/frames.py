"""Frames of an IMAGE batch as 8-bit pictures, one at a time, in the order in which they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Progress = Callable[[int, int], None]


class Frames(Protocol):
    """Images [n, height, width, channels] in 0..1 as the writers need them: a tensor, or frames still being made."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


def half_of(progress: Progress, half: int) -> Progress:
    """The progress of the first (0) or second (1) half of a task."""
    return lambda done, total: progress(half * total + done, 2 * total)


def play_order(count: int, ping_pong: bool) -> list[int]:
    """Indices in the order of playing; ping-pong comes back without showing either end twice."""
    forth = list(range(count))
    return forth + forth[-2:0:-1] if ping_pong else forth


def check_images(images: Frames) -> None:
    """Raises ValueError unless `images` is a batch [n, height, width, 3 or 4] with at least one frame."""
    if len(images.shape) != 4 or images.shape[-1] not in (1, 3, 4):
        raise ValueError(f"Expected images [frames, height, width, 3], got {list(images.shape)}.")
    if 0 in images.shape:
        raise ValueError("There are no frames. Check that the node before this one makes at least one.")


def uint8_frames(
    images: Frames,
    order: list[int],
    *,
    alpha: bool = False,
    even: bool = False,
    progress: Progress | None = None,
) -> Iterator[np.ndarray]:
    """Yields uint8 [height, width, 3], or 4 with `alpha`; without it, transparent images are put on black.

    `even` repeats the last row or column so that both sides are even. `progress(done, total)` may raise to cancel.
    Raises ValueError naming the first frame that is not finite.
    """
    for done, index in enumerate(order):
        if progress:
            progress(done, len(order))
        picture = to_uint8(images[index], index, alpha)
        yield pad_to_even(picture) if even else picture


def to_uint8(image: Tensor, index: int = 0, alpha: bool = False) -> np.ndarray:
    """One image [height, width, channels] in 0..1 as uint8, rounded to the nearest level."""
    image = image.detach().to("cpu", torch.float32)
    if not torch.isfinite(image.sum()) and not torch.isfinite(image).all():
        raise ValueError(
            f"Frame {index} holds NaN or infinite values: the latents or the model produced them before this node. "
            "Try another VAE, run the model or VAE in fp32 (--force-fp32, --fp32-vae), or lower cfg."
        )
    if image.shape[-1] == 1:
        image = image.expand(-1, -1, 3)
    if image.shape[-1] == 4 and not alpha:
        image = on_black(image)
    if image.shape[-1] == 3 and alpha:
        image = torch.nn.functional.pad(image, (0, 1), value=1.0)
    return (image * 255).add_(0.5).clamp_(0, 255).to(torch.uint8).numpy()


def on_black(images: Tensor) -> Tensor:
    """The colours of images [.., 4] with alpha in 0..1 before a black background, [.., 3]."""
    return images[..., :3] * images[..., 3:].clamp(0, 1)


def pad_to_even(picture: np.ndarray) -> np.ndarray:
    """Repeats the last column or row where a side is odd; 4:2:0 video has no odd sizes."""
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
