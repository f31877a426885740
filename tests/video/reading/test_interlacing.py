"""Interlaced clips come out without combs where the stream says so, all others as they are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import constant, numbers, write_video

from fast_animatediff.video import Selection, load_clip, open_source


def fields(k: int) -> np.ndarray:
    """Frame `k` of a white bar that moves 8 pixels between the two fields of each frame."""
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[0::2, 8 * k : 8 * k + 32] = 255
    picture[1::2, 8 * k + 8 : 8 * k + 40] = 255
    return picture


def moving(path: Path, interlaced: bool, frames: int = 8) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 128, 64, "yuv420p"
        video.options = {"crf": "1", "x264-params": "tff=1" if interlaced else "bframes=0"}
        for k in range(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(fields(k), format="rgb24")))
        container.mux(video.encode(None))
    return path


def combs(path: Path, start: Fraction = Fraction(0)) -> torch.Tensor:
    """How much each frame's lines differ from the next."""
    with open_source(str(path), path.name) as source:
        images = load_clip(source, Selection(Fraction(0), start=start), "source").images
    return (images[:, 1:] - images[:, :-1]).abs().mean((1, 2, 3))


def test_interlaced_frames_lose_their_combs(tmp_path) -> None:
    found = combs(moving(tmp_path / "tape.mp4", interlaced=True))
    assert len(found) == 8 and found.max() < 0.03


def test_frames_that_are_not_marked_are_left_alone(tmp_path) -> None:
    found = combs(moving(tmp_path / "screen.mp4", interlaced=False))
    assert len(found) == 8 and found.min() > 0.08


def test_no_frame_is_lost_where_a_recording_changes_its_kind(tmp_path) -> None:
    plain = write_video(tmp_path / "a.ts", constant(Fraction(25), Fraction(1)))
    path = tmp_path / "joined.ts"
    path.write_bytes(plain.read_bytes() + moving(tmp_path / "b.ts", interlaced=True).read_bytes())
    with open_source(str(path), path.name) as source:
        images = load_clip(source, Selection(Fraction(0)), "source").images
    assert len(images) == 33 and numbers(images[:25]) == list(range(25))


def uncompressed(path: Path, pix_fmt: str, pictures: list[np.ndarray], **tags: int) -> Path:
    """Raw interlaced video."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("rawvideo", rate=25, options={"field_order": "tt"})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = pix_fmt
        for name, value in tags.items():
            setattr(video.codec_context, name, value)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(
                video.encode(frame.reformat(format=pix_fmt, dst_colorspace=tags.get("colorspace", 5)))
            )
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("name, pix_fmt", [("a.mov", "uyvy422"), ("a.mkv", "nv12"), ("a.mov", "bgra")])
def test_packed_frames_lose_their_combs_too(tmp_path, name, pix_fmt) -> None:
    found = combs(uncompressed(tmp_path / name, pix_fmt, [fields(k) for k in range(8)]))
    assert len(found) == 8 and found.max() < 0.03


@pytest.mark.parametrize(
    "tags", [{"colorspace": 1}, {"colorspace": 5, "color_trc": 17, "color_primaries": 22}]
)
def test_packed_frames_keep_their_colours(tmp_path, tags) -> None:
    colour = (200, 90, 30)
    picture = np.broadcast_to(np.array(colour, np.uint8), (64, 128, 3)).copy()
    path = uncompressed(tmp_path / "tape.mkv", "uyvy422", [picture] * 3, **tags)
    with open_source(str(path), path.name) as source:
        images = load_clip(source, Selection(Fraction(0)), "source").images
    assert len(images) == 3 and (images * 255 - torch.tensor(colour)).abs().max() < 4


@pytest.mark.parametrize("width, height", [(64, 2), (2, 64), (4, 64), (64, 6)])
def test_frames_too_small_to_be_deinterlaced_are_shown_as_they_are(tmp_path, width, height) -> None:
    picture = np.full((height, width, 3), 255, np.uint8)
    path = uncompressed(tmp_path / "tiny.mkv", "yuv420p", [picture] * 3)
    with open_source(str(path), path.name) as source:
        images = load_clip(source, Selection(Fraction(0)), "source").images
    assert images.shape == (3, height, width, 3) and images.min() > 0.98
