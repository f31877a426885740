"""Values that no widget gives, but a link may: a sentence, or what they mean."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from PIL import Image
from test_video_nodes import WHOLE, clip_in_input, export, grey

from comfy_api.v0_0_2 import InputImpl, Types
from fast_animatediff.nodes.load_video import LoadVideoFrames, SampleVideoFrames
from fast_animatediff.nodes.load_video_latents import LoadVideoLatents

pytestmark = pytest.mark.usefixtures("folders")


@pytest.mark.parametrize("node", [LoadVideoFrames, LoadVideoLatents])
def test_a_linked_file_is_checked_when_the_node_runs(node) -> None:
    """The host checks prompts before any node runs, with None for what is linked."""
    assert node.validate_inputs(None) is True
    first, second = (node.fingerprint_inputs(None, **WHOLE) for _ in range(2))
    assert math.isnan(first) and {(0, first)} != {(0, second)}, "the host takes it for a change"


@pytest.mark.parametrize("file", [5, 1.5, True, ["clip.mp4"], {"name": "clip.mp4"}])
def test_a_value_that_is_no_name_is_refused_with_a_sentence(file) -> None:
    sentence = f"file must be the name of a clip, but is of type {type(file).__name__}."
    assert str(LoadVideoFrames.validate_inputs(file)).startswith(sentence)
    with pytest.raises(ValueError, match=sentence):
        LoadVideoFrames.execute(file, **WHOLE)


@pytest.mark.parametrize("file", ["", "/", ".", "./", "[input]", " [output]"])
def test_no_name_does_not_load_the_pictures_of_the_whole_folder(folders, file) -> None:
    for place in ("input", "output"):
        Image.new("RGB", (16, 16)).save(folders / place / "0001.png")
    assert LoadVideoFrames.validate_inputs(file) == "No clip is chosen. Choose or upload a video."
    with pytest.raises(ValueError, match="No clip is chosen"):
        LoadVideoFrames.execute(file, **{**WHOLE, "fps": 8.0})


@pytest.mark.parametrize("format", ["mp4", "gif", "webp"])
@pytest.mark.parametrize("count", [-3, 65536])
def test_a_loop_count_that_no_file_can_say_is_refused_with_a_sentence(folders, format, count) -> None:
    with pytest.raises(ValueError, match=f"loop_count must be 0 .for ever. to 65,535, not {count}"):
        export(grey(2), format=format, loop_count=count)
    assert list((folders / "output").rglob("*.*")) == []


@pytest.mark.parametrize(("prefix", "name"), [(12, "12_00001_.mp4"), (0.5, "0.5_00001_.mp4")])
def test_a_number_names_a_file(folders, prefix, name) -> None:
    export(grey(2), filename_prefix=prefix)
    assert [path.name for path in (folders / "output").rglob("*.mp4")] == [name]


@pytest.mark.parametrize("prefix", [None, True, ["a"], {"a": 1}])
def test_what_is_no_text_names_no_file(folders, prefix) -> None:
    with pytest.raises(
        ValueError, match=f"filename_prefix must be text, but is of type {type(prefix).__name__}"
    ):
        export(grey(2), filename_prefix=prefix)
    assert list((folders / "output").rglob("*.*")) == []


@pytest.mark.parametrize("rate", [0, -8])
def test_a_video_made_at_no_rate_is_refused_with_a_sentence(rate) -> None:
    video = InputImpl.VideoFromComponents(
        Types.VideoComponents(images=torch.zeros(2, 16, 16, 3), frame_rate=Fraction(rate))
    )
    with pytest.raises(ValueError, match=f"The video has {rate} frames per second"):
        SampleVideoFrames.execute(video, **WHOLE)


@pytest.mark.parametrize("fps", [math.inf, -math.inf, math.nan])
def test_a_rate_that_is_no_number_is_refused_with_a_sentence(folders, fps) -> None:
    with pytest.raises(ValueError, match="fps must be a finite number, not"):
        export(grey(2), fps=fps)
    with pytest.raises(ValueError, match="fps must be a finite number, not"):
        LoadVideoFrames.execute(clip_in_input(folders), **{**WHOLE, "fps": fps})


def test_a_rate_too_low_to_be_told_from_zero_is_not_taken_for_every_frame(folders) -> None:
    with pytest.raises(ValueError, match="fps must be above 0.0005, not 0.0004"):
        LoadVideoFrames.execute(clip_in_input(folders), **{**WHOLE, "fps": 0.0004})


@pytest.mark.parametrize("name", ["first_n_seconds", "start_seconds"])
def test_seconds_that_are_no_number_are_refused_with_a_sentence(folders, name) -> None:
    with pytest.raises(ValueError, match="Seconds must be a finite number, not inf"):
        LoadVideoFrames.execute(clip_in_input(folders), **{**WHOLE, name: math.inf})


@pytest.mark.parametrize("name", ["first_n_seconds", "fps", "start_seconds", "max_frames"])
def test_a_negative_number_is_refused_by_its_name_and_value(folders, name) -> None:
    with pytest.raises(ValueError, match=f"^{name} must not be negative, but is -2"):
        LoadVideoFrames.execute(clip_in_input(folders), **{**WHOLE, name: -2})
