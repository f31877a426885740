"""What came of a prompt: the file that it wrote, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from ..protocol.answers import Video
from ..protocol.failure import INTERRUPTED, MISSING_VIDEO, Failure, Refused, without_paths, wrong_field
from .client import ComfyUI
from .filling import Filled


async def find_written(filled: Filled, comfyui: ComfyUI) -> Video | None:
    """The video of a run whose end was missed: the file appears only once it is complete, and is named by the attempt."""
    for number in count(1):
        file = filled.output(number)
        video = await describe(file, filled, comfyui) if file else None
        if video is None or video["file_size"]:  # an empty file reserves the name
            return video
    return None


async def read_result(job: dict[str, Any], filled: Filled, comfyui: ComfyUI) -> Video:
    """The written file of an ended job. Errors: Refused."""
    if job["status"] == "cancelled":
        raise Refused(INTERRUPTED)
    if job["status"] == "failed":
        raise Refused(describe_failure(job.get("execution_error") or {}, filled))
    file = next(files_of(job, filled.export_node), None)
    video = await describe(file, filled, comfyui) if file else None
    if video is None:
        raise Refused(MISSING_VIDEO)
    return video


def files_of(job: dict[str, Any], node_id: str | None = None) -> Iterator[dict[str, str]]:
    """The files that a node of a job shows, or all of its nodes."""
    for node, shown in job.get("outputs", {}).items():
        # What a node shows is a dict, unless the node is wrong.
        for files in shown.values() if node_id in (None, node) and isinstance(shown, dict) else ():
            for file in files if isinstance(files, list) else ():
                if isinstance(file, dict) and "filename" in file:
                    yield file


async def describe(file: dict[str, str], filled: Filled, comfyui: ComfyUI) -> Video | None:
    described = await comfyui.describe(file)
    if described is None:
        return None
    content_type, size = described
    return Video(
        filename=file["filename"],
        subfolder=file.get("subfolder", ""),
        type=file.get("type", ""),
        content_type=content_type,
        file_size=size,
        worker=comfyui.url,
        seed=filled.seed,
    )


def describe_failure(error: dict[str, Any], filled: Filled) -> Failure:
    """A video that its loader can't read is the input's fault; everything else is ours."""
    message = without_paths(error.get("exception_message") or "ComfyUI gave no reason.")
    if filled.phases.get(error.get("node_id", "")) == "decode":
        return wrong_field("video_url", message, "video_load_error")
    return Failure(500, f"{error.get('node_type', 'ComfyUI')}: {message}", "runner_server_error")
