"""Loaders and writers of videos and pictures: what is chosen stays chosen, and what is lost is said."""

from __future__ import annotations

import pytest
from test_convert import node, only

from fast_animatediff.replacements.convert import convert


@pytest.mark.parametrize(
    "theirs, ours, name, value",
    [
        (
            node("VHS_LoadVideo", video="a.mp4", frame_load_cap=99_999),
            "LoadVideoFrames",
            "max_frames",
            10_000,
        ),
        (
            node("VHS_LoadImages", directory="a", image_load_cap=99_999),
            "LoadVideoFrames",
            "max_frames",
            10_000,
        ),
        (node("VHS_VideoCombine", frame_rate=240, format="image/gif"), "ExportVideo", "fps", 120),
        (node("ADE_PromptScheduling", max_length=9999), "PromptSchedule", "num_frames", 4096),
    ],
)
def test_what_the_nodes_here_would_refuse_is_moved_to_the_nearest_with_a_note(
    theirs: dict, ours: str, name: str, value: float
) -> None:
    conversion = convert({"1": theirs, "2": node("Theirs", any=["1", 0])})
    assert only(conversion, f"FAD_{ours}")[name] == value
    assert [f"to {value} is possible here" in note.text for note in conversion.notes][:1] == [True]


def test_a_linked_number_stays_linked() -> None:
    cap = node("PrimitiveInt", value=24)
    conversion = convert(
        {"1": cap, "2": node("VHS_LoadVideo", video="a.mp4", force_rate=8, frame_load_cap=["1", 0])}
    )
    assert only(conversion, "FAD_LoadVideoFrames")["max_frames"] == ["1", 0]


@pytest.mark.parametrize(
    "theirs, ours, lost",
    [
        ({"force_rate": 12, "select_every_nth": 3}, {"fps": 4}, 0),
        ({"force_rate": 8, "skip_first_frames": 20}, {"fps": 8, "start_seconds": 2.5}, 0),
        ({"force_rate": 0, "select_every_nth": 2}, {"fps": 0}, 1),
        ({"force_size": "512x512"}, {"size": "square 512x512"}, 0),
        ({"custom_width": 576, "custom_height": 1024}, {"size": "portrait_16_9 576x1024"}, 0),
        ({"force_size": "Disabled", "custom_width": 512, "custom_height": 512}, {"size": "source"}, 0),
        ({"format": "Mochi"}, {}, 1),
    ],
)
def test_the_choice_of_frames_is_carried_over_to_seconds(theirs: dict, ours: dict, lost: int) -> None:
    conversion = convert({"1": node("VHS_LoadVideo", **{"video": "a.mp4", "force_rate": 8, **theirs})})
    assert only(conversion, "FAD_LoadVideoFrames").items() >= {"file": "a.mp4", **ours}.items()
    assert len(conversion.notes) == lost


def test_a_folder_of_pictures_is_a_clip_of_a_frame_each() -> None:
    prompt = {
        "1": node("VHS_LoadImages", directory="shots", image_load_cap=12, skip_first_images=4),
        "2": node("PreviewImage", images=["1", 0]),
    }
    conversion = convert(prompt)
    inputs = only(conversion, "FAD_LoadVideoFrames")
    assert inputs.items() >= {"file": "shots/", "fps": 8.0, "start_seconds": 0.5, "max_frames": 12}.items()
    assert conversion.notes == []
    path = convert({"1": node("VHS_LoadImagesPath", directory="input/shots", select_every_nth=2)})
    assert only(path, "FAD_LoadVideoFrames")["file"] == "shots/" and "select_every_nth" in path.notes[0].text


def test_a_file_outside_of_the_input_folder_is_named() -> None:
    inside, outside = (
        convert({"1": node("VHS_LoadVideoPath", video=path)}) for path in ("input/a b.mp4", "C:\\x\\a.mp4")
    )
    assert only(inside, "FAD_LoadVideoFrames")["file"] == "a b.mp4" and inside.notes == []
    assert only(outside, "FAD_LoadVideoFrames")["file"] == "a.mp4" and "C:\\x\\a.mp4" in outside.notes[0].text


@pytest.mark.parametrize(
    "path, file",
    [("input\\shots\\a.mp4", "shots/a.mp4"), (' "input/a.mp4" ', "a.mp4"), ('"C:\\x\\a.mp4"', "a.mp4")],
)
def test_a_path_is_read_as_windows_writes_and_copies_it(path: str, file: str) -> None:
    assert only(convert({"1": node("VHS_LoadVideoPath", video=path)}), "FAD_LoadVideoFrames")["file"] == file


@pytest.mark.parametrize(
    "theirs, lost",
    [
        ({"format": "video/h265-mp4"}, "h265"),
        ({"format": "video/h264-mp4", "loop_count": 3}, "loop_count"),
        ({"format": "video/h264-mp4", "pix_fmt": "yuv420p10le"}, "pix_fmt"),
        ({"format": "image/gif", "save_output": False}, "output folder"),
        ({"format": "image/gif", "meta_batch": ["1", 0]}, "meta_batch"),
    ],
)
def test_what_a_combined_video_loses_is_said(theirs: dict, lost: str) -> None:
    conversion = convert({"1": node("VHS_VideoCombine", images=["7", 0], frame_rate=8, **theirs)})
    assert [lost in note.text for note in conversion.notes] == [True]
