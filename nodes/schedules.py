"""What changes from frame to frame along a clip."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor

from comfy_api.v0_0_2 import io

from ..motion_modules.control_strengths import MOST, with_control_strength
from ..motion_modules.frame_values import parse_numbers, values_of
from ..motion_modules.keyframes import INTERPOLATIONS, Key, frames_beyond, parse_keys, timeline
from ..motion_modules.prompt_schedule import encode_schedule, words_of_other_packs
from .host_progress import host_progress
from .node_text import show_on_node

CATEGORY = "Fast AnimateDiff/schedules"
log = logging.getLogger(__name__)


# One number for each frame, as core's Create Hook Keyframes From Floats takes it.
FrameNumbers = io.Custom("FLOATS")


def show_timeline(
    node: type[io.ComfyNode], keys: Sequence[Key], num_frames: int, interpolation: str, *more: str | None
) -> None:
    """Shows on the node what was understood, and warns of keys beyond the clip. more: other warnings."""
    warnings = [warning for warning in (frames_beyond(keys, num_frames), *more) if warning]
    for warning in warnings:
        log.warning("%s: %s", node.define_schema().display_name, warning)
    if node.hidden:
        show_on_node([*warnings, *timeline(keys, num_frames, interpolation)], node.hidden.unique_id)


class PromptSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_PromptSchedule",
            display_name="Prompt Schedule",
            category=CATEGORY,
            description="Prompts that change along the clip: one for each frame, blended from one key to the next. "
            "Takes the place of CLIP Text Encode.",
            search_aliases=[
                "动画",
                "prompt travel",
                "batch prompt schedule",
                "fizznodes",
                "prompt keyframes",
                "morph",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder, from the checkpoint or through LoRAs."),
                io.String.Input(
                    "schedule",
                    multiline=True,
                    dynamic_prompts=True,
                    default="0: a forest in spring, blossoms\n15: a forest in autumn, falling leaves",
                    placeholder="0: a prompt\n24: another prompt",
                    tooltip="One key on each line: the frame, counted from 0, a colon, the prompt. "
                    'A pasted "0": "a prompt", "24": "another" is understood, too.',
                ),
                io.Int.Input(
                    "num_frames",
                    default=16,
                    min=1,
                    max=4096,
                    tooltip="Frames of the clip, the same number as the latent has.",
                ),
                io.String.Input(
                    "before",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    placeholder="before each prompt",
                    tooltip="Put before the prompt of each key: what stays the same along the clip.",
                ),
                io.String.Input(
                    "after",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    placeholder="after each prompt",
                    tooltip="Put after the prompt of each key: words for quality and style, for example.",
                ),
                io.Combo.Input(
                    "interpolation",
                    options=list(INTERPOLATIONS),
                    default="linear",
                    tooltip="Between two keys: linear changes evenly, ease starts and ends slowly, hold keeps a prompt "
                    "up to the next key.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning", tooltip="One row for each frame, for positive or negative of a sampler."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        clip: io.Clip.Type,
        schedule: str,
        num_frames: int,
        before: str,
        after: str,
        interpolation: str,
    ) -> io.NodeOutput:
        if clip is None:
            raise ValueError(
                "The checkpoint has no text encoder. Connect clip to Load CLIP, or choose another checkpoint."
            )
        keys = parse_keys(schedule)
        show_timeline(cls, keys, num_frames, interpolation, words_of_other_packs(keys))
        return io.NodeOutput(
            encode_schedule(clip, keys, num_frames, before, after, interpolation, host_progress())
        )


class ValueSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_ValueSchedule",
            display_name="Value Schedule",
            category=CATEGORY,
            description="Numbers that change along the clip: one for each frame, such as the strength of the motion.",
            search_aliases=[
                "动画",
                "batch value schedule",
                "keyframes",
                "float schedule",
                "strength per frame",
                "ramp",
            ],
            inputs=[
                io.String.Input(
                    "schedule",
                    multiline=True,
                    default="0: 0.2, 15: 1.0",
                    placeholder="0: 0.2, 24: 1.0",
                    tooltip="Keys between commas or on lines of their own: the frame, counted from 0, a colon, the number.",
                ),
                io.Int.Input(
                    "num_frames",
                    default=16,
                    min=1,
                    max=4096,
                    tooltip="Frames of the clip, the same number as the latent has.",
                ),
                io.Combo.Input(
                    "interpolation",
                    options=list(INTERPOLATIONS),
                    default="linear",
                    tooltip="Between two keys: linear changes evenly, ease starts and ends slowly, hold keeps a number "
                    "up to the next key.",
                ),
            ],
            outputs=[
                FrameNumbers.Output(
                    "floats",
                    tooltip="One number for each frame, for Apply Motion Module (strength_per_frame, "
                    "motion_scale_per_frame) or ControlNet Strength.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, schedule: str, num_frames: int, interpolation: str) -> io.NodeOutput:
        keys = parse_numbers(schedule)
        values = values_of(keys, num_frames, interpolation)
        show_timeline(cls, keys, num_frames, interpolation)
        return io.NodeOutput(values)


class ControlNetStrength(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_ControlNetStrength",
            display_name="ControlNet Strength",
            category=CATEGORY,
            description="How strongly the ControlNet acts on each frame, and where in the picture. Put it behind core's "
            "Apply ControlNet; for several ControlNets, one behind each.",
            search_aliases=[
                "动画",
                "controlnet strength per frame",
                "latent keyframe",
                "timestep keyframe",
                "controlnet mask",
                "controlnet schedule",
            ],
            inputs=[
                io.Conditioning.Input("positive", tooltip="From Apply ControlNet."),
                io.Conditioning.Input("negative", tooltip="From Apply ControlNet."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=MOST,
                    step=0.05,
                    tooltip="Times the strength of Apply ControlNet.",
                ),
                FrameNumbers.Input(
                    "strength_per_frame",
                    optional=True,
                    tooltip="From Value Schedule: one number for each frame, in place of strength. Where it is 0 in a whole "
                    "context window, the ControlNet does not run, which saves time.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the ControlNet acts: fully where white, not at all where black. One mask for all frames, "
                    "or one for each.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive", tooltip="For a sampler, or for the next Apply ControlNet."
                ),
                io.Conditioning.Output(
                    "negative", tooltip="For a sampler, or for the next Apply ControlNet."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: list,
        negative: list,
        strength: float,
        strength_per_frame: list[float] | None = None,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        numbers = strength if strength_per_frame is None else strength_per_frame
        return io.NodeOutput(*with_control_strength([positive, negative], numbers, mask))


NODES: list[type[io.ComfyNode]] = [PromptSchedule, ValueSchedule, ControlNetStrength]
