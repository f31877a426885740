"""Interlaced clips come out without combs where the stream says so, all others as they are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from clips import constant, numbers, write_video

from fast_animatediff.video import Selection, load_clip, open_source


def moving(path: Path, interlaced: bool, frames: int = 8) -> Path:
    """A white bar that moves 8 pixels between the two fields of each frame."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 128, 64, "yuv420p"
        video.options = {"crf": "1", "x264-params": "tff=1" if interlaced else "bframes=0"}
        for k in range(frames):
            picture = np.zeros((64, 128, 3), np.uint8)
            picture[0::2, 8 * k : 8 * k + 32] = 255
            picture[1::2, 8 * k + 8 : 8 * k + 40] = 255
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
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
