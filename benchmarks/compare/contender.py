"""What a contender can do. Each one's module has a class of this shape and nothing that the others need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from .jobs import Job, Size
from .recording import UNetInput

DTYPES = ("fp32", "fp16", "bf16", "fp8", "auto")  # auto: each contender's default


class SkippedError(RuntimeError):
    """This contender, or this cell of it, can't run here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """Where and how to run. dtype: one of DTYPES. peer: the folder that has the contender's code, if named.

    variant: of this pack, as other settings of it or of the host run it: fused, compiled, channels_last.
    """

    contender: str
    folder: Path
    host: Path
    size: Size
    device: str = "cpu"
    dtype: str = "fp32"
    threads: int = 2
    peer: Path | None = None
    variant: str = ""


class Contender(Protocol):
    unet: nn.Module
    latent_scale: float  # from the latents that `sample` returns to those that the UNet sees

    def __init__(self, setting: Setting) -> None: ...

    @staticmethod
    def prepare_import(setting: Setting) -> None:
        """Imports what the contender is an addition to: the host, or nothing but PyTorch."""

    @staticmethod
    def import_code(setting: Setting) -> None:
        """Imports all that a server with this contender would import of it."""

    def version(self) -> str: ...

    def motion_layers(self) -> list[tuple[int, nn.Module]]:
        """(level, module) of the 21 motion layers, level 0 the finest."""

    def read_input(self, args: tuple, kwargs: dict) -> UNetInput:
        """A UNet call's arguments as the recorder wants them."""

    def frames_first(self, x: Tensor, frames: int) -> Tensor:
        """The UNet's output as (b * f, 4, h, w)."""

    def sample(self, job: Job, latent: Tensor | None = None) -> Tensor:
        """Latents (f, 4, h, w) on the device. latent: the clip to start from where strength is below 1."""

    def encode(self, images: Tensor) -> Tensor:
        """(f, height, width, 3) in 0..1 to latents."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to (f, height, width, 3) in 0..1."""

    def export(self, latents: Tensor, path: Path) -> None:
        """Decodes and writes an mp4 at 8 fps, complete when this returns."""


def level_of(place: str) -> int:
    """The UNet level of a motion layer named as in checkpoints, such as `up_blocks.3.motion_modules.0`."""
    kind, number, *_ = place.split(".")
    return {"down_blocks": int, "up_blocks": lambda n: 3 - int(n)}.get(kind, lambda _: 3)(number)
