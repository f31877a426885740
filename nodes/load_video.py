"""Frames of a video file or of the host's VIDEO type, chosen by time."""

from __future__ import annotations

import os
from fractions import Fraction
from functools import lru_cache

import torch

import comfy.model_management
import folder_paths
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
    is_animated_image,
    load_clip,
    open_source,
)
from .host_progress import host_progress

CATEGORY = "Fast AnimateDiff/video"
IMAGE_EXTENSIONS = (".webp", ".png", ".apng")
MAX_SECONDS = 100_000.0


class LoadVideoFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_LoadVideoFrames",
            display_name="Load Video Frames",
            category=CATEGORY,
            description="Loads the first seconds of a video, GIF, animated WebP or PNG as images at the frame rate you "
            "choose: each image is the frame on screen at that moment.",
            search_aliases=[
                "load video",
                "import video",
                "video to images",
                "gif",
                "force fps",
                "frame load cap",
            ],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=input_videos(),
                    tooltip="A video or animation in the input folder. Upload one with the button, or drop it on the node.",
                    extra_dict={"clip_extensions": [*EXTENSIONS, *IMAGE_EXTENSIONS]},  # for the page's upload
                ),
                *selection_inputs(),
            ],
            outputs=clip_outputs(),
        )

    @classmethod
    def execute(
        cls, file: str, first_n_seconds: float, fps: float, start_seconds: float, size: str, max_frames: int
    ) -> io.NodeOutput:
        selection = Selection(
            exact_rate(fps), exact_seconds(first_n_seconds), exact_seconds(start_seconds), max_frames
        )
        with open_source(contained_path(file), display_name(file), free_memory()) as source:
            return decode(source, selection, size)

    @classmethod
    def fingerprint_inputs(
        cls, file: str, first_n_seconds: float, fps: float, start_seconds: float, size: str, max_frames: int
    ) -> str:
        status = os.stat(contained_path(file))
        return f"{status.st_mtime_ns}:{status.st_size}"

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        return refused(file) or True


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


def refused(file: str) -> str | None:
    """Why a value of `file` can't be loaded, as far as its name and first bytes tell."""
    try:
        path = contained_path(file)
        status = os.stat(path)
    except (ValueError, OSError):
        return f"{display_name(file)} is not in ComfyUI's input folder. Choose or upload a video."
    if path.lower().endswith(IMAGE_EXTENSIONS) and not moves(path, status.st_mtime_ns, status.st_size):
        return f"{display_name(file)} is a still picture. Choose a video or animation, or use Load Image."
    return None if os.path.isfile(path) else f"{display_name(file)} is not a file. Choose or upload a video."


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
    return io.NodeOutput(clip.images, float(clip.fps), len(clip.images), audio, host_mask(clip))


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


def free_memory() -> Limits:
    """Limits with the memory that is free where the images will live."""
    device = comfy.model_management.intermediate_device()
    return Limits(max_bytes=comfy.model_management.get_free_memory(device))


def input_videos() -> list[str]:
    """Names of the videos and animations in the input folder, sorted; links that lead out of the folders are left out."""
    with os.scandir(folder_paths.get_input_directory()) as entries:
        return sorted(entry.name for entry in entries if is_offered(entry))


def is_offered(entry: os.DirEntry[str]) -> bool:
    """Whether a file of the input folder can be loaded as a video, as far as its name and first bytes tell."""
    extension = os.path.splitext(entry.name)[1].lower()
    if extension not in (*EXTENSIONS, *IMAGE_EXTENSIONS):
        return False
    try:
        if not entry.is_file() or (entry.is_symlink() and not is_contained(os.path.realpath(entry.path))):
            return False
        status = entry.stat()
    except OSError:  # a link that leads to itself
        return False
    return extension in EXTENSIONS or moves(entry.path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=65536)
def moves(path: str, modified: int, size: int) -> bool:
    """Whether a picture is animated. The host asks for the list at every prompt; a file is opened once per change."""
    return is_animated_image(path)


def is_contained(path: str) -> bool:
    """Whether a real path lies in the input, output or temp folder."""
    folders = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )
    return any(folder_paths.is_within_directory(folder, path) for folder in folders)


def contained_path(file: str) -> str:
    """The real path of a file of the input, output or temp folder; ValueError when it leads out of them."""
    path = os.path.realpath(folder_paths.get_annotated_filepath(file))
    if is_contained(path):
        return path
    raise ValueError(
        f"{display_name(file)} lies outside the input, output and temp folders. Upload the video again."
    )


def display_name(file: str) -> str:
    """The file's name alone, without folder and annotation, for messages."""
    return os.path.basename(folder_paths.annotated_filepath(file)[0])


NODES: list[type[io.ComfyNode]] = [LoadVideoFrames, SampleVideoFrames]
