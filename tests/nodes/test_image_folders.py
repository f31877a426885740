"""Folders of numbered pictures in Load Video Frames."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fast_animatediff.nodes.input_clips import input_clips
from fast_animatediff.nodes.load_video import LoadVideoFrames

pytestmark = pytest.mark.usefixtures("folders")
SELECTION = {"first_n_seconds": 0.0, "fps": 8.0, "start_seconds": 0.0, "size": "source", "max_frames": 0}


def grey(level: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, (level,) * 3)


def make_folder(folders: Path, names: Iterable[str], name: str = "walk") -> Path:
    """Pictures whose grey is ten times their place in `names`."""
    folder = folders / "input" / name
    folder.mkdir()
    for place, file in enumerate(names):
        grey(10 * place).save(folder / file)
    return folder


def load(file: str = "walk/", **changes: object) -> tuple:
    assert LoadVideoFrames.validate_inputs(file) is True
    return LoadVideoFrames.execute(file, **{**SELECTION, **changes}).args


def places(images: torch.Tensor) -> list[int]:
    return (images.mean((1, 2, 3)) * 25.5).round().int().tolist()


def test_pictures_come_in_the_order_of_their_numbers(folders) -> None:
    make_folder(folders, [f"frame {number}.png" for number in range(8, 13)])
    images, fps, count, audio, mask = load()
    assert (places(images), fps, count, audio) == ([0, 1, 2, 3, 4], 8.0, 5, None)
    assert mask.max() == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"first_n_seconds": 0.5}, [0, 1, 2, 3]),
        ({"start_seconds": 0.5, "max_frames": 3}, [4, 5, 6]),
        ({"fps": 4.0, "first_n_seconds": 1.0}, [0, 1, 2, 3]),  # each picture is one frame at any rate
    ],
)
def test_seconds_are_counted_at_the_rate_of_the_input(folders, changes, expected) -> None:
    make_folder(folders, [f"{number:04}.png" for number in range(12)])
    assert places(load(**changes)[0]) == expected


def test_a_start_after_the_last_picture_is_an_error_that_says_how_long_the_clip_is(folders) -> None:
    make_folder(folders, [f"{number}.png" for number in range(4)])
    with pytest.raises(ValueError, match="walk/ has no frame after 3 s: it is 0.5 s long"):
        load(start_seconds=3.0)


def test_every_kind_of_picture_and_depth_is_taken(folders) -> None:
    folder = make_folder(folders, ["0.png", "1.jpg", "2.webp", "3.bmp", "4.tiff"])
    Image.fromarray(np.full((64, 64), 50 * 257, np.uint16)).save(folder / "5.png")
    grey(60).convert("L").save(folder / "6.png")
    grey(70).quantize().save(folder / "7.png")
    (folder / "8.txt").write_text("no picture")
    assert places(load()[0]) == list(range(8))


def test_transparent_pictures_give_a_mask(folders) -> None:
    folder = make_folder(folders, ["0.png"])
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(folder / "1.png")
    images, *_, mask = load()
    assert images[1].max() == 0 and mask.mean((1, 2)).tolist() == [0, 1]


def test_a_picture_that_is_stored_sideways_comes_out_upright(folders) -> None:
    folder = make_folder(folders, [])
    exif = Image.Exif()
    exif[0x0112] = 6
    grey(50, (80, 64)).save(folder / "0.jpg", exif=exif)
    assert load()[0].shape == (1, 80, 64, 3)


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        (["1.png", "2.png", "5.png", "6.png"], "between 2.png and 5.png"),
        (["1.png", "3.png", "5.png", "7.png"], None),
    ],
)
def test_gaps_are_named_and_the_pictures_follow_each_other(folders, caplog, names, warned) -> None:
    make_folder(folders, names)
    with caplog.at_level(logging.WARNING):
        assert places(load()[0]) == [0, 1, 2, 3]
    assert (warned in caplog.text) if warned else not caplog.text


def test_a_picture_of_another_size_is_named(folders) -> None:
    grey(0, (64, 32)).save(make_folder(folders, ["1.png", "2.png"]) / "3.png")
    with pytest.raises(ValueError, match="walk/3.png is 64x32, but the first picture is 64x64"):
        load()


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_broken_picture_is_named_without_its_folder(folders, content) -> None:
    folder = make_folder(folders, ["1.png", "2.png"])
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match="^walk/2.png can't be read as a picture"):
        load()


def test_a_folder_has_no_rate_of_its_own(folders) -> None:
    make_folder(folders, ["1.png", "2.png"])
    with pytest.raises(ValueError, match="walk/ is a folder of pictures.*set fps"):
        load(fps=0.0)


def test_folders_of_pictures_are_offered_after_the_files(folders) -> None:
    make_folder(folders, ["1.png", "2.png"])
    make_folder(folders, ["cover.png", "1.png"], "one picture")
    make_folder(folders, [], "empty")
    (folders / "input" / "z.mp4").write_bytes(b"")
    assert input_clips() == ["z.mp4", "walk/"]
    make_folder(folders, ["0.png", "1.png"], "later")
    assert input_clips() == ["z.mp4", "later/", "walk/"]


def test_sixteen_bits_keep_their_transparent_colour_and_their_turn(folders) -> None:
    folder, exif = make_folder(folders, ["0.png"]), Image.Exif()
    levels = np.full((64, 64), 50 * 257, np.uint16)
    levels[:32] = 0
    exif[0x0112] = 6
    Image.fromarray(levels).save(folder / "1.png", transparency=50 * 257, exif=exif)
    mask = load()[4]
    assert mask[1, :, :32].min() == 1 and mask[1, :, 32:].max() == 0


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pictures_whose_white_is_unknown_are_refused_and_not_shown_as_black(folders, dtype) -> None:
    folder = make_folder(folders, ["0.png"])
    Image.fromarray(np.full((64, 64), 120, dtype)).save(folder / "1.tiff")
    with pytest.raises(ValueError, match="^walk/1.tiff has 32 bits a channel"):
        load()


@pytest.mark.parametrize("exif", [b"no EXIF at all", b"MM\0*\0\0\0\x08\0\x05"])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_picture_with_damaged_exif_data_is_taken_as_it_lies(folders, suffix, exif) -> None:
    folder = make_folder(folders, ["0.png"])
    grey(10).save(folder / f"1{suffix}", exif=b"Exif\0\0" + exif)
    assert places(load()[0]) == [0, 1]


def test_a_picture_that_is_too_large_is_said_to_be_too_large(folders) -> None:
    folder = make_folder(folders, ["0.png"])
    data = (folder / "0.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + data[24:29]
    (folder / "1.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(ValueError, match="walk/1.png is larger than the limit of 67,108,864 pixels"):
        load()


@pytest.mark.parametrize("odd", ["\u24603.png", "1\u00b2.png"])  # digits to Unicode, not to int()
def test_a_number_that_python_can_not_read_does_not_take_the_nodes_away(folders, odd) -> None:
    make_folder(folders, ["1.png", "2.png", odd])
    assert input_clips() == ["walk/"]
    assert LoadVideoFrames.define_schema().inputs[0].options == ["walk/"]
    assert sorted(places(load()[0])) == [0, 1, 2]


def test_hidden_files_are_no_pictures_and_no_clips(folders) -> None:
    """macOS leaves a file of its own, `._0001.png`, beside each picture that it copies to a foreign disk."""
    folder = make_folder(folders, ["1.png", "2.png"])
    for path in (folder / "._1.png", folders / "input" / "._clip.mp4"):
        path.write_bytes(b"\0\x05\x16\x07Mac OS X")
    assert input_clips() == ["walk/"]
    assert places(load()[0]) == [0, 1]


def test_a_folder_without_numbered_pictures_is_refused_with_a_sentence(folders) -> None:
    make_folder(folders, ["cover.png"])
    assert "holds no pictures with numbers" in str(LoadVideoFrames.validate_inputs("walk/"))


def test_a_folder_in_a_folder_and_one_without_the_slash_can_be_named(folders) -> None:
    make_folder(folders, ["1.png", "2.png"], "walk")
    make_folder(folders, ["1.png", "2.png"], "walk/more")
    assert [load(name)[2] for name in ("walk/more/", "walk")] == [2, 2]


def test_a_changed_picture_is_loaded_again(folders) -> None:
    folder = make_folder(folders, ["1.png", "2.png"])
    before = LoadVideoFrames.fingerprint_inputs("walk/", **SELECTION)
    assert LoadVideoFrames.fingerprint_inputs("walk/", **SELECTION) == before
    os.utime(folder / "2.png", ns=(1, 1))
    assert LoadVideoFrames.fingerprint_inputs("walk/", **SELECTION) != before


@pytest.mark.parametrize("linked", ["folder", "picture"])
def test_links_out_of_the_folders_are_not_followed(folders, linked) -> None:
    (folders / "secret").mkdir()
    grey(0).save(folders / "secret" / "1.png")
    if linked == "folder":
        (folders / "input" / "walk").symlink_to(folders / "secret")
        assert input_clips() == [] and LoadVideoFrames.validate_inputs("walk/") is not True
        return
    (make_folder(folders, ["0.png"]) / "1.png").symlink_to(folders / "secret" / "1.png")
    assert input_clips() == []
    with pytest.raises(ValueError, match="walk/1.png is a link to a file outside ComfyUI's folders"):
        load()
