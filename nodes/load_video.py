"""Frames of a video file or of the host's VIDEO type, chosen by time."""

from __future__ import annotations

import logging
import os
from fractions import Fraction

import torch

import comfy.model_management
from comfy_api.v0_0_2 import Input, InputImpl, io

from ..video import (
    EXTENSIONS,
    FIT,
    SIZES,
    Clip,
    Limits,
    Selection,
    Source,
    TensorSource,
    exact_rate,
    exact_seconds,
    load_clip,
    open_source,
)
from .host_progress import host_progress
from .input_clips import (
    IMAGE_EXTENSIONS,
    check_clip,
    clip_fingerprint,
    free_memory,
    input_clips,
    open_clip,
)

log = logging.getLogger(__name__)

CATEGORY = "Fast AnimateDiff/video"
MAX_SECONDS = 100_000.0


class LoadVideoFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_LoadVideoFrames",
            display_name="Load Video Frames",
            category=CATEGORY,
            description="Loads the first seconds of a video, GIF, animated WebP or PNG, or a folder of numbered pictures, as "
            "images at the frame rate you choose: each image is the frame on screen at that moment.",
            search_aliases=[
                "视频",
                "load video",
                "import video",
                "video to images",
                "gif",
                "force fps",
                "frame load cap",
                "load images from folder",
                "image sequence",
            ],
            inputs=[
                file_input(),
                *selection_inputs(),
            ],
            outputs=clip_outputs(),
        )

    @classmethod
    def execute(
        cls, file: str, first_n_seconds: float, fps: float, start_seconds: float, size: str, max_frames: int
    ) -> io.NodeOutput:
        selection = typed_selection(first_n_seconds, fps, start_seconds, max_frames)
        with open_clip(file, selection.fps) as source:
            return decode(source, selection, size)

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, **_: object) -> str | float:
        return clip_fingerprint(file)

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return check_clip(file)


class SampleVideoFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_SampleVideoFrames",
            display_name="Sample Video Frames",
            category=CATEGORY,
            description="Takes images at the frame rate you choose from a VIDEO, such as the output of Load Video or "
            "Trim Video, without decoding the rest of it.",
            search_aliases=[
                "视频",
                "采样",
                "video to images",
                "get video components",
                "extract frames",
                "resample fps",
                "force fps",
            ],
            inputs=[
                io.Video.Input(
                    "video",
                    tooltip="The video to take frames from. Trims made before this node are respected.",
                ),
                *selection_inputs(),
            ],
            outputs=clip_outputs(),
        )

    @classmethod
    def execute(
        cls,
        video: Input.Video,
        first_n_seconds: float,
        fps: float,
        start_seconds: float,
        size: str,
        max_frames: int,
    ) -> io.NodeOutput:
        selection = trimmed_selection(
            video, exact_rate(fps), exact_seconds(first_n_seconds), exact_seconds(start_seconds), max_frames
        )
        with video_source(video) as source:
            return decode(source, selection, size)


def file_input() -> io.Input:
    """The clip of the nodes that load one."""
    return io.Combo.Input(
        "file",
        options=input_clips(),
        tooltip="A video, an animation or a folder of numbered pictures in the input folder. Upload a file with the button, or "
        "drop it on the node.",
        extra_dict={"clip_extensions": [*EXTENSIONS, *IMAGE_EXTENSIONS]},  # for the page's upload
    )


def typed_selection(first_n_seconds: float, fps: float, start_seconds: float, max_frames: int) -> Selection:
    """The selection that the widgets ask for."""
    return Selection(
        exact_rate(fps), exact_seconds(first_n_seconds), exact_seconds(start_seconds), max_frames
    )


def selection_inputs() -> list[io.Input]:
    """The widgets that both loaders share; their order is saved in workflow files."""
    return [
        io.Float.Input(
            "first_n_seconds",
            default=3.0,
            min=0.0,
            max=MAX_SECONDS,
            step=0.1,
            tooltip="How many seconds of the video to take, counted from start_seconds. 0 takes all of it.",
        ),
        io.Float.Input(
            "fps",
            default=8.0,
            min=0.0,
            max=120.0,
            step=0.01,
            tooltip="Images per second of video. Frames are dropped or repeated to match; the speed stays the same. "
            "AnimateDiff was trained at 8. 0 takes every frame of the video.",
        ),
        io.Float.Input(
            "start_seconds",
            default=0.0,
            min=0.0,
            max=MAX_SECONDS,
            step=0.1,
            advanced=True,
            tooltip="Where in the video to start, in seconds after its first frame.",
        ),
        io.Combo.Input(
            "size",
            options=list(SIZES),
            default=FIT,
            advanced=True,
            tooltip="The size of the images: fit keeps the aspect ratio at about the area that SD1.5 was trained on, a "
            "preset fills its size and crops the rest evenly, source keeps the size of the video.",
        ),
        io.Int.Input(
            "max_frames",
            default=0,
            min=0,
            max=Limits().max_frames,
            advanced=True,
            tooltip="Stops after this many images. 0 sets no limit.",
        ),
    ]


def clip_outputs() -> list[io.Output]:
    """The outputs that both loaders share."""
    return [
        io.Image.Output("images", tooltip="The selected frames, in order."),
        io.Float.Output("fps", tooltip="The frame rate of the images, for Export Video."),
        io.Int.Output("frame_count", tooltip="The number of images."),
        io.Audio.Output("audio", tooltip="The sound of the same span; empty when the video has none."),
        io.Mask.Output("mask", tooltip="White where the video is transparent; the images are black there."),
    ]


def decode(source: Source, selection: Selection, size: str) -> io.NodeOutput:
    """Runs the selection and returns it as the host's types."""
    clip = load_clip(
        source,
        selection,
        size,
        limits=free_memory(),
        dtype=comfy.model_management.intermediate_dtype(),
        device=comfy.model_management.intermediate_device(),
        progress=host_progress(),
    )
    audio = source.audio(clip.start, clip.seconds)
    frames, height, width, _ = clip.images.shape
    log.info("%d frames, %dx%d, at %.4g fps", frames, width, height, clip.fps)
    return io.NodeOutput(clip.images, float(clip.fps), frames, audio, host_mask(clip))


def host_mask(clip: Clip) -> torch.Tensor:
    """The clip's transparency, or the host's small empty mask when it has none."""
    if clip.mask is not None:
        return clip.mask
    return torch.zeros((len(clip.images), 64, 64), dtype=clip.images.dtype, device=clip.images.device)


def trimmed_selection(
    video: Input.Video, fps: Fraction, seconds: Fraction, start: Fraction, max_frames: int
) -> Selection:
    """The selection within the part of the video that trims have left."""
    begin, length = (exact_seconds(value) for value in video.get_active_trim_window())
    if length:
        rest = length - start
        if rest <= 0:
            raise ValueError(
                f"start_seconds is {float(start):g}, but the video was trimmed to {float(length):g} s. Lower it."
            )
        seconds = min(seconds, rest) if seconds else rest
    return Selection(fps, seconds, begin + start, max_frames)


def video_source(video: Input.Video) -> Source:
    """Frames in memory are used as they are; everything else is read from its file or buffer."""
    if isinstance(video, InputImpl.VideoFromComponents):
        parts = video.get_components()
        return TensorSource(parts.images, parts.frame_rate, parts.audio)
    file = video.get_stream_source()
    return open_source(file, os.path.basename(file) if isinstance(file, str) else "The video", free_memory())


NODES: list[type[io.ComfyNode]] = [LoadVideoFrames, SampleVideoFrames]
