"""Group norms across the frames of a clip, as v1 motion modules were trained with.

In guoyww/AnimateDiff with `use_inflated_groupnorm: false`, the UNet's ResBlock norms and its output norm see all
frames at once (45 norms); the norms of spatial and temporal transformers see each frame alone.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from comfy.patcher_extension import WrappersMP

from .frame_values import blend
from .host_internals import Executor, ResBlock, output_layers, resblock_layers

# In transformer_options: where the last layer leaves its features for `output_across_frames`. Also that wrapper's key.
FEATURES_KEY = "fast_animatediff_features"


def norm_across_frames(norm: nn.Module, x: Tensor, frames: int, strength: float | Tensor = 1.0) -> Tensor:
    """Applies a group norm to (b * f, c, h, w) with the statistics of whole clips, below strength 1 partly of frames.

    The two copies stay: statistics over the 5-D view, in fp32 so that large features do not overflow, would move 4 instead
    of 6 times the features' bytes, but in 11 instead of 3 operations: 360 more to launch in a step.
    """
    clips = x.unflatten(0, (-1, frames)).transpose(1, 2)  # "(b f) c h w -> b c f h w"
    normal = norm(clips.flatten(2, 3)).unflatten(2, clips.shape[2:4])
    normal = normal.transpose(1, 2).flatten(0, 1)
    return normal if isinstance(strength, float) and strength == 1.0 else blend(norm(x), normal, strength)


def resblock_across_frames(
    block: ResBlock, x: Tensor, emb: Tensor, frames: int, strength: float | Tensor = 1.0
) -> Tensor:
    """An SD1.5 ResBlock (no resampling, no scale-shift norm) with both norms across the frames."""
    (first_norm, *first_layers), project_emb, (second_norm, *second_layers), skip = resblock_layers(block)
    h = norm_across_frames(first_norm, x, frames, strength)
    for layer in first_layers:
        h = layer(h)
    h = h + project_emb(emb).type(h.dtype)[:, :, None, None]
    h = norm_across_frames(second_norm, h, frames, strength)
    for layer in second_layers:
        h = layer(h)
    return skip(x) + h


def output_across_frames(
    executor: Executor,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor | None,
    y: Tensor | None,
    control: dict | None,
    transformer_options: dict,
    **kwargs: Any,
) -> Tensor:
    """DIFFUSION_MODEL wrapper: the UNet's output layers once more, with their norm across the frames.

    The host has no hook between the last block and the output norm, so the last layer's features are kept and the plain
    output is dropped: one small convolution (to 4 channels) too many.
    """
    features: list[tuple[Tensor, int, float | Tensor]] = []
    transformer_options = {**transformer_options, FEATURES_KEY: features}
    output = executor(x, timesteps, context, y, control, transformer_options, **kwargs)
    if not features:
        return output
    h, frames, strength = features.pop()
    norm, layers = output_layers(executor)
    h = norm_across_frames(norm, h.type(x.dtype), frames, strength)
    for layer in layers:
        h = layer(h)
    return h


def keep_innermost(executor: Executor, *arguments: Any, **options: Any) -> Tensor:
    """OUTER_SAMPLE wrapper: lets no later node's wrapper (EasyCache) keep the plain output for the one across frames."""
    wrappers = executor.class_obj.model_options["transformer_options"]["wrappers"][WrappersMP.DIFFUSION_MODEL]
    wrappers[FEATURES_KEY] = wrappers.pop(FEATURES_KEY)
    return executor(*arguments, **options)
