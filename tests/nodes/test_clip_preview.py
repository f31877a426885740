"""What the page asks about a chosen clip: a line of text, and a preview of what a browser can't play."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest
from PIL import Image

from fast_animatediff.nodes.clip_preview import described, preview_file
from fast_animatediff.tests.browser.coloured_clips import write_coloured

SELECTION = {
    "first_n_seconds": "3",
    "fps": "8",
    "start_seconds": "0",
    "size": "fit 512x512 area",
    "max_frames": "0",
}


@pytest.fixture
def clip(folders: Path) -> Path:
    return write_coloured(folders / "input" / "clip.avi", (0, 128, 0))


@pytest.mark.parametrize(
    "changed, line",
    [
        ({}, "8 frames at 8 fps, 624x416"),
        ({"max_frames": "1"}, "1 frame at 8 fps, 624x416"),
        ({"fps": "0", "size": "source"}, "25 frames at 25 fps, 96x64"),
        ({"start_seconds": "0.5", "size": "square 512x512"}, "4 frames at 8 fps, 512x512"),
    ],
)
def test_the_line_says_what_the_clip_is_and_what_will_be_loaded(
    clip: Path, changed: dict[str, str], line: str
) -> None:
    values = {**SELECTION, **changed, "file": clip.name}
    assert described(values) == f"1.0 s, 96x64, 25 fps \u2192 {line}"


def test_with_a_linked_widget_the_line_is_about_the_file_alone(clip: Path) -> None:
    assert described({"file": clip.name, "fps": "8"}) == "1.0 s, 96x64, 25 fps"


def test_what_can_not_be_loaded_is_said_in_a_sentence_without_a_path(folders: Path) -> None:
    Image.new("RGB", (64, 64)).save(folders / "input" / "still.png")
    (folders / "input" / "notes.mp4").write_text("no video" * 100)
    for name, reason in {
        "still.png": "is a still picture",
        "notes.mp4": "notes.mp4",
        "none.mp4": "is not in ComfyUI's input folder",
        "../secret.mp4": "is not in ComfyUI's input folder",
        "": "No clip is chosen",
    }.items():
        line = described({**SELECTION, "file": name})
        assert reason in line and str(folders) not in line
    for wrong in ({"fps": "inf"}, {"fps": "nan"}, {"max_frames": "x"}, {"size": "huge"}):
        assert "frames at" not in described({**SELECTION, "file": "still.png", **wrong})


def test_a_folder_of_pictures_without_a_rate_is_refused_as_the_run_refuses_it(folders: Path) -> None:
    (folders / "input" / "walk").mkdir()
    for number in (1, 2):
        Image.new("RGB", (64, 64)).save(folders / "input" / "walk" / f"{number}.png")
    assert "has no rate of its own: set fps" in described({**SELECTION, "file": "walk/", "fps": "0"})
    assert described({"file": "walk/"}) == "0.2 s, 64x64, 8 fps"


@pytest.mark.parametrize("name", ["first_n_seconds", "fps", "start_seconds", "max_frames"])
@pytest.mark.parametrize("typed", ["", "x", "nan", "inf"])
def test_a_field_without_a_number_is_named(clip: Path, name: str, typed: str) -> None:
    line = described({**SELECTION, "file": clip.name, name: typed})
    assert line == f"{name} must be a number, not '{typed}'."


def test_a_preview_is_a_small_mp4_that_is_written_once(clip: Path, folders: Path) -> None:
    first = preview_file(clip.name)
    assert first.is_relative_to(folders / "temp")
    with av.open(str(first)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.width * stream.height <= 330 * 330
    written = os.stat(first).st_mtime_ns
    assert preview_file(clip.name) == first and os.stat(first).st_mtime_ns == written
    write_coloured(clip, (128, 0, 0))
    os.utime(clip, ns=(1, 1))
    assert preview_file(clip.name) != first


def test_only_files_of_the_hosts_folders_get_a_preview(clip: Path, folders: Path) -> None:
    outside = folders / "secret.avi"
    clip.rename(outside)
    (folders / "input" / "link.avi").symlink_to(outside)
    for name in ("../secret.avi", str(outside), "link.avi"):
        with pytest.raises((ValueError, OSError)):
            preview_file(name)
