"""Exports that can't be done: an error that says why, and nothing left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from clips import bars, without_rights

from fast_animatediff.video import (
    FORMATS,
    Export,
    export_video,
)
from fast_animatediff.video.writing.new_files import new_files

try:
    import resource
except ImportError:  # Windows
    resource = None

EIGHT = Export(Fraction(8))
VIDEO_FORMATS = ("mp4", "webm")


def save(images: torch.Tensor, folder: Path, settings: Export = EIGHT, **options) -> Path:
    return export_video(images, folder, "clip", 1, settings, **options)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_frames_that_are_not_finite_are_named(tmp_path, format, value) -> None:
    images = bars(6)
    images[4, 3, 2, 1] = value
    with pytest.raises(ValueError, match="Frame 4 holds NaN or infinite values: the latents or the model"):
        save(images, tmp_path, Export(Fraction(8), format))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("rate", [None, 0, -1, 0.5, 10**9, float("inf"), float("nan")])
def test_audio_without_a_sample_rate_is_an_error_that_says_so(tmp_path, rate) -> None:
    with pytest.raises(ValueError, match="The audio has no sample_rate"):
        save(bars(3), tmp_path, audio={"waveform": torch.zeros(1, 2, 8000), "sample_rate": rate})
    assert os.listdir(tmp_path) == []


def test_audio_without_a_waveform_is_an_error_that_says_so(tmp_path) -> None:
    with pytest.raises(ValueError, match="The audio has no waveform"):
        save(bars(3), tmp_path, audio={"sample_rate": 48000})
    assert os.listdir(tmp_path) == []


def test_no_frames_is_an_error(tmp_path) -> None:
    with pytest.raises(ValueError, match="There are no frames"):
        save(torch.zeros(0, 16, 16, 3), tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_the_encoder_refuses_is_an_error_with_the_name_and_leaves_nothing(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"clip_00001_\.mp4 could not be encoded .* frames may be too large"):
        save(torch.zeros(2, 16, 20000, 3), tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("shape", [(1, 2, 16384, 3), (2, 16384, 2, 3)])
def test_a_webp_that_would_be_too_large_is_refused_before_a_frame_is_read(tmp_path, shape) -> None:
    images = torch.full(shape, float("nan"))  # would be reported first if the frames were read
    with pytest.raises(ValueError, match="at most 16,383 pixels wide and high, but the frames are"):
        save(images, tmp_path, Export(Fraction(8), "webp"))
    assert os.listdir(tmp_path) == []


def test_an_error_that_is_not_the_disks_is_not_called_one(tmp_path) -> None:
    def break_down(done: int, total: int) -> None:
        raise OSError("the model is gone")

    with pytest.raises(OSError, match="^the model is gone$"):
        save(bars(3), tmp_path, progress=break_down)
    assert os.listdir(tmp_path) == []


def test_a_file_that_can_not_get_its_name_leaves_no_other(tmp_path) -> None:
    with pytest.raises(FileNotFoundError), new_files(tmp_path, ".gif", ".png") as files:
        files[".gif"].write_bytes(b"gif")
        files.keep("clip_{}".format, 1)  # the png was never written
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("frame", [0, 3])
def test_a_cancelled_export_leaves_nothing(tmp_path, format, frame) -> None:
    def cancel(done: int, total: int) -> None:
        if done == frame:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(torch.rand(6, 64, 64, 3), tmp_path, Export(Fraction(8), format), progress=cancel)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
def test_progress_never_goes_back(tmp_path, format) -> None:
    shares = [0.0]
    save(
        bars(6),
        tmp_path,
        Export(Fraction(8), format),
        progress=lambda done, total: shares.append(done / total),
    )
    assert shares == sorted(shares) and shares[-1] > 0.8


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files of this process can't grow past `size` bytes, as on a disk that is almost full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(resource is None, reason="needs resource limits")
@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_fills_up_midway_gives_an_error_and_leaves_nothing(tmp_path, format) -> None:
    images = torch.rand(12, 128, 128, 3)
    with (
        room_for(20_000),
        pytest.raises(OSError, match=rf"clip_00001_\.{format} could not be written") as caught,
    ):
        save(images, tmp_path, Export(Fraction(8), format))
    assert str(tmp_path) not in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs user ids")
def test_a_folder_that_is_not_writable_gives_an_error() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        refused = r"clip_00001_\.mp4 could not be written: the folder is not writable"
        with without_rights(), pytest.raises(OSError, match=refused) as caught:
            save(bars(3), Path(name))
        assert name not in str(caught.value) and os.listdir(name) == []
