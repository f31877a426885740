"""The clip as it is being sampled, moving on its node. The host's own preview shows the first frame of a batch."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher

from .asking_page import send_event

EVENT = "fast-animatediff.preview"  # for this pack's extension of the page
MOST_FRAMES = 16
SIDE = 256  # pixels at most
SECONDS_PER_FRAME = 1 / 8
Callback = Callable[[int, Tensor, Tensor, int], None]


def moving_preview(model: ModelPatcher, workflow: str | None) -> Callback:
    """A sampler's callback: moves the node's bar and, as the user's preview method wants it, shows the frames so far.

    workflow: the id of the one that runs.
    """
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    bar = comfy.utils.ProgressBar(1)
    context = get_executing_context()

    def callback(step: int, denoised: Tensor, _noisy: Tensor, steps: int) -> None:
        bar.update_absolute(step + 1, steps)
        if previewer is not None and context is not None:
            stride = -(-len(denoised) // MOST_FRAMES)
            frames = [previewer.decode_latent_to_preview(frame[None]) for frame in denoised[::stride]]
            picture = as_address(frames, stride * SECONDS_PER_FRAME)
            send_event(EVENT, {"workflow": workflow, "node": context.node_id, "picture": picture})

    return callback


def as_address(frames: list[Image.Image], seconds: float) -> str:
    """A small animated WebP that a page can show as it is."""
    for frame in frames:
        frame.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    first, *rest = frames
    duration = round(seconds * 1000)
    first.save(content, "WEBP", save_all=True, append_images=rest, duration=duration, loop=0, method=0)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
