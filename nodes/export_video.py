"""Frames into a video file in the output folder, with the workflow inside."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.v0_0_2 import Input, InputImpl, Types, io, ui

from ..video import (
    DEFAULT_QUALITY,
    FORMATS,
    QUALITIES,
    WITH_SOUND,
    Export,
    exact_rate,
    export_video,
    front_end_tags,
    on_black,
    play_order,
    write_errors,
)
from .asking_page import workflow_id
from .host_progress import host_progress

CATEGORY = "Fast AnimateDiff/video"
DEFAULT_NAME = "FastAnimateDiff"
LONGEST_NAME = 255 - len("_00001_.webm")  # bytes, as most file systems have it


class ExportVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_ExportVideo",
            display_name="Export Video",
            category=CATEGORY,
            description="Writes images as a video file with the workflow inside: dropping the file on the page brings "
            "the graph back.",
            search_aliases=[
                "视频",
                "save video",
                "video combine",
                "images to video",
                "save mp4",
                "save gif",
                "create video",
            ],
            inputs=[io.Image.Input("images", tooltip="The frames to write, in order."), *export_inputs()],
            outputs=[io.Video.Output("video", tooltip="The written video, for nodes that go on with it.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        images: Input.Image,
        fps: float,
        format: str,
        quality: str,
        filename_prefix: str,
        crf: int,
        ping_pong: bool,
        loop_count: int,
        audio: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        settings = Export(exact_rate(fps), format, quality, crf, ping_pong, loop_count)
        prefix = checked_prefix(filename_prefix)
        folder, name, counter, subfolder = free_place(prefix, images.shape[2], images.shape[1])
        tags = workflow_tags(cls.hidden)
        path = export_video(
            images, folder, name, counter, settings, audio=audio, tags=tags, progress=host_progress()
        )
        return io.NodeOutput(as_video(path, images, settings), ui=result(path, subfolder, cls.hidden))


def checked_prefix(filename_prefix: object) -> str:
    """The prefix without detours, and with a name where it has none.

    ValueError where it points outside the output folder: the host's own error would name the server's folders. A number, from
    a link that takes any type, is its text.
    """
    if isinstance(filename_prefix, int | float) and not isinstance(filename_prefix, bool):
        filename_prefix = str(filename_prefix)
    if not isinstance(filename_prefix, str):
        raise ValueError(
            f"filename_prefix must be text, but is of type {type(filename_prefix).__name__}. Change its link."
        )
    if "\0" in filename_prefix:
        raise ValueError("filename_prefix holds a null character. Remove it.")
    try:
        filename_prefix.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "filename_prefix holds half of a character, such as an emoji. Type it again."
        ) from error
    prefix = os.path.normpath(filename_prefix)
    if prefix == os.curdir:  # the host would make a hidden file of it, `._00001_.mp4`
        return DEFAULT_NAME
    output = folder_paths.get_output_directory()
    folder, name = os.path.split(os.path.join(output, prefix))
    if name == os.pardir or not folder_paths.is_within_directory(output, folder):
        raise ValueError(
            f"filename_prefix '{filename_prefix}' points outside the output folder. Remove '..', the leading slash or the link."
        )
    return prefix


def free_place(prefix: str, width: int, height: int) -> tuple[Path, str, int, str]:
    """Folder, name, counter and subfolder for images of a size, which the prefix may name; makes the folder."""
    with write_errors(os.path.basename(prefix)):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), width, height
        )
        if len(os.fsencode(name)) > LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return Path(folder), name, counter, subfolder


def workflow_tags(hidden: io.HiddenHolder | None) -> dict[str, str]:
    """The workflow and prompt of this run, or nothing when the host keeps metadata out of files."""
    if args.disable_metadata or hidden is None:
        return {}
    return front_end_tags(hidden.prompt, hidden.extra_pnginfo)


def as_video(path: Path, images: Input.Image, settings: Export) -> Input.Video:
    """The written file as a VIDEO; the frames themselves for GIF and WebP, which the host's nodes don't take as one."""
    if settings.format in WITH_SOUND:
        return InputImpl.VideoFromFile(str(path))
    order = play_order(len(images), settings.ping_pong)
    shown = images[order] if settings.ping_pong else images
    opaque = on_black(shown) if shown.shape[-1] == 4 else shown
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=opaque, frame_rate=settings.fps))


def result(path: Path, subfolder: str, hidden: io.HiddenHolder | None) -> dict[str, list[ui.SavedResult]]:
    """What the node's own extension of the page shows. The host's `images` would go on showing a video after a GIF.

    written: tells the file from one of the same name that was there before and that a browser may have kept.
    """
    saved = ui.SavedResult(path.name, subfolder, io.FolderType.output)
    saved["written"] = str(path.stat().st_mtime_ns)
    if workflow := workflow_id(hidden):
        saved["workflow"] = workflow
    return {"video": [saved]}


def export_inputs() -> list[io.Input]:
    """How frames are written: the inputs of Export Video after its images. Workflow files save their order."""
    return [
        io.Float.Input(
            "fps",
            default=8.0,
            min=0.0,  # which is refused: the page would turn a 0 that was typed into the least value without a word
            max=120.0,
            step=0.01,
            tooltip="Frames per second; connect the fps of the loader to keep the speed of the source.",
        ),
        io.Combo.Input(
            "format",
            options=list(FORMATS),
            default="mp4",
            tooltip="The kind of file: mp4 (H.264) plays everywhere; webm (AV1, or VP9 for images with transparency) is "
            "smaller; gif and webp are animated pictures without sound. A gif gets a png beside it with the workflow.",
        ),
        io.Combo.Input(
            "quality",
            options=list(QUALITIES),
            default=DEFAULT_QUALITY,
            tooltip="Higher quality makes larger files; high is hard to tell from the frames themselves.",
        ),
        io.String.Input(
            "filename_prefix",
            default=f"video/{DEFAULT_NAME}",
            tooltip="Folder and beginning of the name inside the output folder; %date:yyyy-MM-dd% and values of other "
            "nodes can be used, as in Save Image.",
        ),
        io.Int.Input(
            "crf",
            default=-1,
            min=-1,
            max=63,
            advanced=True,
            tooltip="The video encoder's own quality number, lower is better: up to 51 for mp4, 63 for webm. -1 takes it "
            "from quality; gif and webp don't use it.",
        ),
        io.Boolean.Input(
            "ping_pong",
            default=False,
            advanced=True,
            tooltip="Plays the frames back and forth, so that the end meets the beginning.",
        ),
        io.Int.Input(
            "loop_count",
            default=0,
            min=0,
            max=1000,
            advanced=True,
            tooltip="How often a gif or webp plays; 0 is for ever. mp4 and webm leave that to the player.",
        ),
        io.Audio.Input(
            "audio", optional=True, tooltip="Sound for the video; it is cut where the frames end."
        ),
    ]


NODES: list[type[io.ComfyNode]] = [ExportVideo]
