"""A motion module on a model, and windows for clips that are longer than it renders at once."""

from __future__ import annotations

import logging

from torch import Tensor

from comfy.model_patcher import ModelPatcher
from comfy_api.v0_0_2 import io

from ..motion_modules.adapter import apply_motion_module
from ..motion_modules.host_internals import ContextFuseMethods, ContextSchedules
from ..motion_modules.layer_windows import make_windows
from ..motion_modules.motion_settings import BETA_SCHEDULES, MotionSettings
from ..motion_modules.windows import WindowSettings, set_windows
from .loaders import CATEGORY, MotionLoraType, MotionModuleType
from .schedules import FrameNumbers

log = logging.getLogger(__name__)


class ApplyMotionModule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_ApplyMotionModule",
            display_name="Apply Motion Module",
            category=CATEGORY,
            description="Makes an SD1.5 model render its batch as the frames of one clip. The result is an ordinary "
            "model that works with any sampler and any LoRA.",
            search_aliases=["动画", "animatediff", "apply animatediff", "use evolved sampling", "motion"],
            inputs=[
                io.Model.Input("model", tooltip="An SD1.5 model, with its LoRAs, if any, already applied."),
                MotionModuleType.Input("motion_module", tooltip="From Load Motion Module."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How strongly the motion module acts: 1 is as trained; at 0 it is off and the frames are "
                    "generated independently.",
                ),
                MotionLoraType.Input(
                    "motion_lora", optional=True, tooltip="Camera movements, from Motion LoRA."
                ),
                io.Float.Input(
                    "motion_scale",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Sharpens (above 1) or softens the attention between frames; 1.1 to 1.3 gives more motion.",
                ),
                io.Combo.Input(
                    "beta_schedule",
                    options=["auto", *BETA_SCHEDULES],
                    default="auto",
                    advanced=True,
                    tooltip="The noise schedule. auto is the one the motion module was trained with; in lcm mode, "
                    "AnimateDiff Sampler switches to the LCM schedule automatically.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Where in the sampling the motion module starts to act; 0 is the first step.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Where in the sampling the motion module stops; 1 is the last step.",
                ),
                io.Boolean.Input(
                    "cpu_bf16",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Without a GPU: computes in bf16 if the processor has AVX512_BF16 or AMX, which takes two "
                    "thirds of the time and changes the frames slightly. Off: fp32.",
                ),
                io.Boolean.Input(
                    "compile_motion",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Has no effect any longer: connect core's TorchCompileModel behind this node. It compiles the "
                    "motion layers together with the UNet.",
                ),
                FrameNumbers.Input(
                    "strength_per_frame",
                    optional=True,
                    tooltip="From Value Schedule: one number for each frame, in place of strength.",
                ),
                FrameNumbers.Input(
                    "motion_scale_per_frame",
                    optional=True,
                    tooltip="From Value Schedule: one number for each frame, in place of motion_scale.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the motion module acts: fully where white, not at all where black. One mask for all "
                    "frames, or one for each.",
                ),
                io.Boolean.Input(
                    "still_background",
                    default=False,
                    optional=True,
                    tooltip="With a mask: where it is black, all frames show one picture, which stands still. Off: each "
                    "frame is a picture of its own there.",
                ),
                io.Boolean.Input(
                    "fused_kernels",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="On a GPU with Triton: fewer passes over memory in the motion module, where a trial in the first "
                    "step finds them faster on this card. The log says which. Off: PyTorch's kernels.",
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="For AnimateDiff Sampler or any other sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        motion_module: ModelPatcher,
        strength: float,
        motion_scale: float,
        beta_schedule: str,
        start_percent: float,
        end_percent: float,
        motion_lora: tuple = (),
        cpu_bf16: bool = True,
        compile_motion: bool = False,
        strength_per_frame: list[float] | None = None,
        motion_scale_per_frame: list[float] | None = None,
        mask: Tensor | None = None,
        still_background: bool = False,
        fused_kernels: bool = False,
    ) -> io.NodeOutput:
        if compile_motion:
            log.warning(
                "compile_motion has no effect: connect TorchCompileModel behind Apply Motion Module. "
                "It compiles the motion layers together with the UNet."
            )
        settings = MotionSettings(
            strength if strength_per_frame is None else strength_per_frame,
            motion_scale if motion_scale_per_frame is None else motion_scale_per_frame,
            beta_schedule,
            start_percent,
            end_percent,
            motion_lora,
            cpu_bf16,
            mask,
            still_background,
            fused_kernels,
        )
        return io.NodeOutput(apply_motion_module(model, motion_module, settings))


class ContextWindows(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_ContextWindows",
            display_name="Context Windows (AnimateDiff)",
            category=CATEGORY,
            description="Renders long clips in overlapping windows of frames. Clips too long for the motion module "
            "are windowed automatically; this node is for choosing how.",
            search_aliases=[
                "动画",
                "animatediff context",
                "sliding window",
                "long video",
                "freenoise",
                "loop",
                "context options",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to sample in windows, before or after Apply Motion Module."
                ),
                io.Int.Input(
                    "context_length",
                    default=16,
                    min=2,
                    max=128,
                    tooltip="Frames in one window. Most motion modules were trained on 16; the most they take is 24 "
                    "for v1 and 32 for v2 and v3.",
                ),
                io.Int.Input(
                    "context_overlap",
                    default=4,
                    min=0,
                    max=64,
                    tooltip="Frames that neighbouring windows share. More hides the seams better and takes longer.",
                ),
                io.Combo.Input(
                    "context_schedule",
                    options=[
                        ContextSchedules.STATIC_STANDARD,
                        ContextSchedules.UNIFORM_STANDARD,
                        ContextSchedules.UNIFORM_LOOPED,
                        ContextSchedules.BATCHED,
                    ],
                    default=ContextSchedules.STATIC_STANDARD,
                    tooltip="Where the windows lie: in the same place at each step (standard_static), moving from step to "
                    "step (standard_uniform), wrapping around the end (looped_uniform), or side by side (batched).",
                ),
                io.Combo.Input(
                    "fuse_method",
                    options=ContextFuseMethods.LIST_STATIC,
                    default=ContextFuseMethods.PYRAMID,
                    tooltip="How overlapping windows are blended; pyramid weights the middle of a window most.",
                ),
                io.Boolean.Input(
                    "closed_loop",
                    default=False,
                    tooltip="Joins the end to the start, for a clip that loops. A clip of more than one window needs "
                    "looped_uniform.",
                ),
                io.Boolean.Input(
                    "freenoise",
                    default=False,
                    tooltip="Repeats the first window's noise, shuffled, along the clip, for a steadier scene.",
                ),
                io.Int.Input(
                    "context_stride",
                    default=1,
                    min=1,
                    max=8,
                    advanced=True,
                    tooltip="For the uniform schedules: adds windows over every 2nd frame (2), every 4th (3) and so on.",
                ),
                io.Boolean.Input(
                    "motion_layers_only",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Windows only the motion module: the image model sees each frame once a step, which saves the "
                    "work of the overlaps but needs memory for the whole clip. An approximation: the frames differ.",
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="The model, sampled in windows.")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        context_length: int,
        context_overlap: int,
        context_schedule: str,
        fuse_method: str,
        closed_loop: bool,
        freenoise: bool,
        context_stride: int,
        motion_layers_only: bool = False,
    ) -> io.NodeOutput:
        settings = WindowSettings(
            context_length,
            context_overlap,
            context_schedule,
            fuse_method,
            context_stride,
            closed_loop,
            freenoise,
            motion_layers_only,
        )
        return io.NodeOutput(set_windows(model, make_windows(settings)))


NODES: list[type[io.ComfyNode]] = [ApplyMotionModule, ContextWindows]
