"""What changes from frame to frame along a clip."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from comfy_api.v0_0_2 import io

from ..motion_modules.frame_values import parse_numbers, values_of
from ..motion_modules.keyframes import INTERPOLATIONS, Key, frames_beyond, parse_keys, timeline
from ..motion_modules.prompt_schedule import encode_schedule
from .host_progress import host_progress
from .node_text import show_on_node

CATEGORY = "Fast AnimateDiff/schedules"
log = logging.getLogger(__name__)


# One number for each frame, as core's Create Hook Keyframes From Floats takes it.
FrameNumbers = io.Custom("FLOATS")


def show_timeline(node: type[io.ComfyNode], keys: Sequence[Key], num_frames: int, interpolation: str) -> None:
    """Shows on the node what was understood, and warns of keys beyond the clip."""
    lines, warning = timeline(keys, num_frames, interpolation), frames_beyond(keys, num_frames)
    if warning:
        log.warning("%s: %s", node.define_schema().display_name, warning)
        lines = [warning, *lines]
    if node.hidden:
        show_on_node(lines, node.hidden.unique_id)


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
        show_timeline(cls, keys, num_frames, interpolation)
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
                    tooltip="One number for each frame, for strength_per_frame or motion_scale_per_frame of Apply "
                    "Motion Module.",
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


NODES: list[type[io.ComfyNode]] = [PromptSchedule, ValueSchedule]
