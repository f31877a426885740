"""Export Video through its node: the file, its name, its preview, its workflow."""

from __future__ import annotations

import json
import os

import av
import pytest
from test_video_nodes import WHOLE, clip_in_input, export, grey, levels

import comfy.model_management
from comfy.cli_args import args
from comfy_api.v0_0_2 import io as host_io
from fast_animatediff.nodes.export_video import ExportVideo
from fast_animatediff.nodes.load_video import LoadVideoFrames

pytestmark = pytest.mark.usefixtures("folders")


@pytest.mark.parametrize("format", ["mp4", "webm", "gif", "webp"])
def test_the_exported_video_goes_on_to_other_nodes(format) -> None:
    parts = export(grey(6), format=format)[0].get_components()
    assert levels(parts.images[..., :3]) == list(range(6))
    assert parts.frame_rate == 8


@pytest.mark.parametrize("format", ["mp4", "webm", "gif", "webp"])
def test_the_page_can_show_what_was_exported(folders, format) -> None:
    (shown,) = export(grey(6), format=format).ui["video"]
    name = f"clip_00001_.{format}"
    assert shown.pop("written").isdecimal()
    assert shown == {"filename": name, "subfolder": "video", "type": "output"}
    assert (folders / "output/video" / name).stat().st_size


@pytest.mark.parametrize(
    "extra, workflow",
    [
        ({"workflow": {"id": "7f"}}, "7f"),
        ({"workflow": {"nodes": []}}, None),
        ({"workflow": {"id": [3]}}, None),
        ({"workflow": ["text"]}, None),
        ({"workflow": "text"}, None),
        ({"workflow": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_result_names_the_workflow_that_asked_whatever_a_program_sent(folders, extra, workflow) -> None:
    hidden = {host_io.Hidden.prompt: {"3": {}}, host_io.Hidden.extra_pnginfo: extra}
    (shown,) = export(grey(2), hidden).ui["video"]
    assert shown.get("workflow") == workflow


def test_the_workflow_is_inside_unless_the_host_keeps_metadata_out(folders) -> None:
    graph = {"workflow": {"nodes": [{"id": 3}]}}
    hidden = {host_io.Hidden.prompt: {"3": {"class_type": "X"}}, host_io.Hidden.extra_pnginfo: graph}
    export(grey(3), hidden)
    with av.open(str(folders / "output/video/clip_00001_.mp4")) as container:
        assert json.loads(container.metadata["workflow"]) == graph["workflow"]
        assert json.loads(container.metadata["prompt"]) == {"3": {"class_type": "X"}}
    args.disable_metadata = True
    try:
        export(grey(3), hidden)
    finally:
        args.disable_metadata = False
    with av.open(str(folders / "output/video/clip_00002_.mp4")) as container:
        assert not {"workflow", "prompt"} & set(container.metadata)


def test_files_of_the_same_name_are_numbered(folders) -> None:
    for format in ("mp4", "gif", "mp4"):
        export(grey(2), format=format)
    names = sorted(os.listdir(folders / "output/video"))
    assert names == ["clip_00001_.mp4", "clip_00002_.gif", "clip_00002_.png", "clip_00003_.mp4"]


def test_a_cancelled_run_leaves_no_file(folders) -> None:
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        export(grey(4))
    assert os.listdir(folders / "output/video") == []
    file = clip_in_input(folders)
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        LoadVideoFrames.execute(file, **WHOLE)


def test_an_output_folder_that_is_a_file_is_an_error_without_the_path(folders) -> None:
    (folders / "output" / "video").write_bytes(b"")
    with pytest.raises(OSError, match="could not be written: a part of its folder is a file") as caught:
        export(grey(2))
    assert str(folders) not in str(caught.value)


OUTSIDE = ["../outside/clip", "{absolute}/outside/clip", "..", "a/../..", "../..", "/"]


@pytest.mark.parametrize("prefix", OUTSIDE)
def test_files_are_written_nowhere_else(folders, prefix, tmp_path_factory) -> None:
    absolute = tmp_path_factory.mktemp("elsewhere")
    prefix = prefix.format(absolute=absolute)
    with pytest.raises(ValueError, match="points outside the output folder") as caught:
        export(grey(2), filename_prefix=prefix)
    assert str(folders) not in str(caught.value)
    assert not (folders / "outside").exists() and os.listdir(absolute) == []


@pytest.mark.parametrize("prefix", ["", ".", "./", "foo/..", "%year%/..", "video/../"])
def test_a_prefix_without_a_name_writes_into_the_output_folder(folders, prefix) -> None:
    export(grey(2), filename_prefix=prefix)
    assert os.listdir(folders / "output") == ["FastAnimateDiff_00001_.mp4"]


def test_a_prefix_may_make_a_detour_inside_of_the_output_folder(folders) -> None:
    (shown,) = export(grey(2), filename_prefix="a/../b/./clip").ui["video"]
    assert (shown["filename"], shown["subfolder"]) == ("clip_00001_.mp4", "b")
    assert os.listdir(folders / "output") == ["b"]


@pytest.mark.parametrize("prefix", ["\ud83dx", "x/\ud83d/y", "x\udcff"])
def test_a_prefix_with_half_a_character_is_refused_with_a_sentence(folders, prefix) -> None:
    with pytest.raises(ValueError, match="filename_prefix holds half of a character"):
        export(grey(2), filename_prefix=prefix)


def test_a_prefix_with_a_null_character_is_refused_by_name(folders) -> None:
    with pytest.raises(ValueError, match="filename_prefix holds a null character"):
        export(grey(2), filename_prefix="clip\0")


@pytest.mark.parametrize("name", ["n" * 250, "\u00e9" * 125])
def test_a_name_that_is_too_long_is_refused_before_any_frame_is_read(folders, name) -> None:
    images = grey(2)
    images[0] = float("nan")  # would be reported first if the frames were read
    with pytest.raises(OSError, match="the name is too long. Shorten filename_prefix"):
        export(images, filename_prefix=name)


def test_a_rate_of_nothing_is_refused_instead_of_taken_for_the_smallest(folders) -> None:
    with pytest.raises(ValueError, match="fps must be above 0 and at most 1000, not 0"):
        export(grey(2), fps=0.0)
    fps = next(entry for entry in ExportVideo.GET_SCHEMA().inputs if entry.id == "fps")
    assert fps.min == 0  # else the page would make something else of a 0 that is typed


def test_frames_that_are_not_finite_stop_the_export(folders) -> None:
    images = grey(4)
    images[2] = float("nan")
    with pytest.raises(ValueError, match="Frame 2 holds NaN"):
        export(images)
    assert os.listdir(folders / "output/video") == []
