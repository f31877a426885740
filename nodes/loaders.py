"""Loading motion modules and motion LoRAs."""

from __future__ import annotations

import folder_paths
from comfy_api.v0_0_2 import io

from ..motion_modules import lora
from ..motion_modules.checkpoint import load_motion_module
from ..motion_modules.folders import MOTION_LORAS, MOTION_MODULES, listed_name, model_path

CATEGORY = "Fast AnimateDiff/motion"

# Names of our own, so that another pack's motion model can't be plugged in by mistake.
MotionModuleType = io.Custom("FAD_MOTION_MODULE")
MotionLoraType = io.Custom("FAD_MOTION_LORA")


class LoadMotionModule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_LoadMotionModule",
            display_name="Load Motion Module",
            category=CATEGORY,
            description="Loads an AnimateDiff motion module for SD1.5: v1, v2, v3, Lightning, AnimateLCM or "
            "LongAnimateDiff, in the original or the diffusers layout.",
            search_aliases=[
                "动画",
                "animatediff",
                "animate diff loader",
                "motion model",
                "mm_sd15",
                "animatelcm",
                "lightning",
            ],
            inputs=[
                io.Combo.Input(
                    "motion_module",
                    options=folder_paths.get_filename_list(MOTION_MODULES),
                    tooltip="A file in models/animatediff_models. Its family is detected; mm_sd15_v2 suits most checkpoints.",
                ),
            ],
            outputs=[
                MotionModuleType.Output(
                    "motion_module_out", "motion_module", tooltip="For Apply Motion Module."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, motion_module: str | None = None) -> bool | str:
        return _is_listed(MOTION_MODULES, motion_module)

    @classmethod
    def execute(cls, motion_module: str) -> io.NodeOutput:
        return io.NodeOutput(load_motion_module(model_path(MOTION_MODULES, motion_module)))


class MotionLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_MotionLora",
            display_name="Motion LoRA",
            category=CATEGORY,
            description="Adds a trained motion, usually a camera movement, to the motion module. Chain several to "
            "combine them.",
            search_aliases=[
                "动画",
                "镜头",
                "animatediff lora",
                "camera motion",
                "zoom",
                "pan",
                "tilt",
                "rolling",
                "motion lora loader",
            ],
            inputs=[
                io.Combo.Input(
                    "motion_lora",
                    options=folder_paths.get_filename_list(MOTION_LORAS),
                    tooltip="A file in models/animatediff_motion_lora. The published camera LoRAs were made for "
                    "v2 modules.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-2.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How strongly it acts. 0.7 to 1 is usual; a negative value works against the motion.",
                ),
                MotionLoraType.Input(
                    "previous",
                    optional=True,
                    tooltip="Another Motion LoRA whose motion is added to this one.",
                ),
            ],
            outputs=[MotionLoraType.Output("motion_lora", tooltip="For Apply Motion Module.")],
        )

    @classmethod
    def validate_inputs(cls, motion_lora: str | None = None) -> bool | str:
        return _is_listed(MOTION_LORAS, motion_lora)

    @classmethod
    def execute(
        cls, motion_lora: str, strength: float, previous: tuple[lora.MotionLora, ...] = ()
    ) -> io.NodeOutput:
        return io.NodeOutput(
            (*previous, lora.load_motion_lora(model_path(MOTION_LORAS, motion_lora), strength))
        )


def _is_listed(folder: str, name: str | None) -> bool | str:
    """For validate_inputs, in place of the host's own look into the list; a connected input has no name yet."""
    if name is None or listed_name(folder, name):
        return True
    return f"{name} is not in models/{folder}. Put it there and press R on the page."


NODES: list[type[io.ComfyNode]] = [LoadMotionModule, MotionLora]
