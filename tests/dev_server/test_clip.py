from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fast_animatediff.dev_server.clip import write_clip


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_mp4_has_four_seconds_at_24_fps_and_plays_anywhere(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 24
        assert Fraction(stream.duration) * stream.time_base == 4
    assert decode(path).shape == (96, 64, 64, 3)


def test_the_gif_has_four_seconds_at_10_fps(tmp_path: Path) -> None:
    with Image.open(write_clip(tmp_path / "clip.gif")) as picture:
        assert (picture.n_frames, picture.size, picture.info["duration"]) == (40, (64, 64), 100)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_the_same_seed_gives_the_same_file(tmp_path: Path, name: str) -> None:
    first, again, other = (
        write_clip(tmp_path / folder / name, seed) for folder, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_the_red_circle_crosses_from_right_to_left(tmp_path: Path) -> None:
    frames = decode(write_clip(tmp_path / "clip.mp4")).astype(int)
    red = (frames[..., 0] > 170) & (frames[..., 1] < 80) & (frames[..., 2] < 80)
    columns = [np.nonzero(frame)[1].mean() for frame in red[8:-8:8]]
    assert all(later < earlier for earlier, later in zip(columns, columns[1:], strict=False))
    assert columns[0] - columns[-1] > 20


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clip.avi"):
        write_clip(tmp_path / "clip.avi")
