"""Files that are damaged, mislabelled or malicious: a clear error or what can be saved, nothing else opened."""

from __future__ import annotations

import io
import logging
import os
import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import barcode, constant, numbers, without_rights, write_video, write_webp
from PIL import Image, features

from fast_animatediff.video import Clip, Limits, Selection, load_clip, open_source

EIGHT = Selection(Fraction(8))


def load(file: str | io.BytesIO, name: str = "clip.mp4", limits: Limits | None = None) -> Clip:
    with open_source(file, name, limits) as source:
        return load_clip(source, EIGHT, "source", limits=limits)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"This is a text file.\n" * 50,
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        b"GIF89a",
        b"\x1aE\xdf\xa3",
        b"RIFF",
    ],
    ids=["empty", "zero", "text", "mp4 head", "gif head", "mkv head", "riff"],
)
def test_what_is_no_video_gives_an_error_with_the_name_and_no_folder(tmp_path, content) -> None:
    path = tmp_path / "holiday.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"holiday\.mp4") as caught:
        load(str(path), "holiday.mp4")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("head", [b"RIFF\x10\0\0\0WEBPVP8X", b"\x89PNG\r\n\x1a\n"], ids=["webp", "png"])
def test_a_cut_off_animation_gives_an_error_with_its_name(tmp_path, head) -> None:
    path = tmp_path / "sticker.webp"
    path.write_bytes(head)
    with pytest.raises(ValueError, match=r"sticker\.webp could not be opened as an animation"):
        load(str(path), "sticker.webp")


def test_a_missing_file_is_said_to_be_missing(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4 was not found"):
        load(str(tmp_path / "gone.mp4"), "gone.mp4")


def test_an_mp4_without_its_index_is_refused(tmp_path, clip) -> None:
    data = clip.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(ValueError, match=r"cut\.mp4 could not be opened as a video"):
        load(str(path), "cut.mp4")


def test_a_cut_off_video_gives_what_is_there_and_says_so(tmp_path, caplog) -> None:
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast", "g": "8"})
        stream.width = stream.height = 64
        noise = np.random.default_rng(0)
        for _ in range(96):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 255, (64, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = whole.read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(data[: len(data) // 2])
    frames = len(load(str(path), "half.mp4").images)
    assert 12 <= frames <= 20
    assert "half.mp4 is damaged or cut off" in caplog.text and f"there are used: {frames}." in caplog.text


def test_a_whole_video_gives_no_warning(clip, caplog) -> None:
    load(str(clip))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def whole_and_broken(folder: Path, suffix: str, broken: Callable[[bytearray], bytes]) -> tuple[Path, int]:
    """A clip of 48 frames, broken, and how many frames it had."""
    path, durations = folder / f"clip{suffix}", [40] * 48
    if suffix == ".webp":
        write_webp(path, durations)
    elif suffix == ".png":
        first, *rest = (Image.fromarray(barcode(k)) for k in range(48))
        first.save(path, save_all=True, append_images=rest, duration=durations)
    else:
        write_video(path, constant(Fraction(25), Fraction(48, 25)), gop_size=8)
    path.write_bytes(broken(bytearray(path.read_bytes())))
    return path, 48


KINDS = (".mp4", ".mkv", ".webm", ".ts", ".avi", ".gif", ".webp", ".png")


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".ts", ".gif", ".png"])
def test_half_a_file_gives_the_frames_that_are_there(tmp_path, suffix) -> None:
    path, frames = whole_and_broken(tmp_path, suffix, lambda data: data[: len(data) // 2])
    with open_source(str(path), path.name) as source:
        found = numbers(load_clip(source, Selection(Fraction(0)), "source").images)
    assert 4 < len(found) < frames and found == list(range(len(found)))


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_any_damage_gives_frames_or_an_error_with_the_name(tmp_path, suffix, seed) -> None:
    def scratch(data: bytearray) -> bytes:
        for at in np.random.default_rng(seed).integers(8, len(data), 12):
            data[at] ^= 0x5A
        return data

    path, _ = whole_and_broken(tmp_path, suffix, scratch)
    try:
        assert len(load(str(path), path.name).images) > 0
    except ValueError as error:
        assert path.name in str(error) and str(tmp_path) not in str(error)


def test_a_stream_that_turns_up_midway_does_not_end_the_clip(tmp_path, clip) -> None:
    """MPEG-TS without sound, followed by MPEG-TS with it."""
    late = tmp_path / "late.ts"
    with av.open(str(late), "w") as container:
        video, audio = container.add_stream("libx264", rate=24), container.add_stream("aac", rate=44100)
        video.width, video.height = 80, 16
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(audio.encode(sound))
        for _ in range(24):
            container.mux(video.encode(av.VideoFrame(80, 16)))
        container.mux(video.encode(None))
    path = tmp_path / "joined.ts"
    first = write_video(tmp_path / "first.ts", constant(Fraction(24), Fraction(1)))
    path.write_bytes(first.read_bytes() + late.read_bytes())
    with open_source(str(path), path.name) as source:
        assert len(load_clip(source, Selection(Fraction(0)), "source").images) == 48


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs user ids")
def test_a_file_that_can_not_be_read_is_an_error_without_its_folder() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = write_video(Path(name, "locked.mp4"), constant(Fraction(24), Fraction(1)))
        path.chmod(0)
        with without_rights(), pytest.raises(PermissionError, match=r"^locked\.mp4 can't be read"):
            load(str(path), path.name)


def test_a_picture_too_thin_to_fill_its_size_is_refused(tmp_path) -> None:
    path = tmp_path / "thread.gif"
    Image.new("P", (8, 8000)).save(path)
    with open_source(str(path), path.name) as source, pytest.raises(ValueError, match="too long and thin"):
        load_clip(source, EIGHT, (512, 512))


def test_flipped_bytes_are_lived_with(tmp_path, clip) -> None:
    data = bytearray(clip.read_bytes())
    start, stop = data.index(b"mdat") + 40, data.index(b"moov") - 8
    for at in np.random.default_rng(1).integers(start, stop, 60):
        data[at] ^= 0x5A
    path = tmp_path / "scratched.mp4"
    path.write_bytes(data)
    assert 1 <= len(load(str(path)).images) <= 16


def test_sound_alone_is_refused(tmp_path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"song\.mp4 has no moving pictures"):
        load(str(path), "song.mp4")


def test_a_cover_picture_is_not_taken_for_the_video(tmp_path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
        container.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        container.mux(cover.encode(None))
    with pytest.raises(ValueError, match=r"song\.mp4 has no moving pictures"):
        load(str(path), "song.mp4")


@pytest.mark.skipif(not features.check("avif"), reason="This Pillow writes no AVIF")
def test_an_animated_avif_of_another_name_moves(tmp_path) -> None:
    first, *rest = (Image.fromarray(barcode(number)) for number in range(8))
    first.save(tmp_path / "clip.avif", save_all=True, append_images=rest, duration=125)
    path = (tmp_path / "clip.avif").rename(tmp_path / "clip.mp4")
    assert numbers(load(str(path)).images) == list(range(8))


def test_a_video_without_a_single_frame_is_refused(tmp_path) -> None:
    path = tmp_path / "nothing.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        container.start_encoding()
    with pytest.raises(ValueError, match=r"nothing\.mkv"):
        load(str(path), "nothing.mkv")


def test_an_animation_too_large_to_decode_is_refused_by_its_header(tmp_path) -> None:
    frame = Image.new("RGBA", (8, 8), (255, 0, 0, 99))
    for suffix, at, size in ((".gif", 6, struct.pack("<HH", 9000, 9000)), (".webp", 24, _webp_size(9000))):
        path = tmp_path / f"bomb{suffix}"
        frame.save(path, save_all=True, append_images=[Image.new("RGBA", (8, 8))], duration=100)
        data = bytearray(path.read_bytes())
        data[at : at + len(size)] = size
        path.write_bytes(data)
        with pytest.raises(ValueError, match="9000x9000, more than the limit of 67,108,864 pixels"):
            load(str(path), path.name)


def test_a_huge_gif_of_a_few_kilobytes_is_refused(tmp_path) -> None:
    path = tmp_path / "bomb.gif"
    Image.new("P", (12000, 12000)).save(path)
    with pytest.raises(ValueError, match="12000x12000"):
        load(str(path), path.name)


def _webp_size(side: int) -> bytes:
    return 2 * (side - 1).to_bytes(3, "little")


def test_a_frame_that_grows_midway_past_the_limit_is_not_decoded(tmp_path) -> None:
    small = write_video(tmp_path / "a.ts", constant(Fraction(24), Fraction(1)))
    with av.open(str(tmp_path / "b.ts"), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height = 640, 640
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(640, 640)))
        container.mux(stream.encode(None))
    path = tmp_path / "joined.ts"
    path.write_bytes(small.read_bytes() + (tmp_path / "b.ts").read_bytes())
    assert len(load(str(path), limits=Limits(max_pixels=100 * 100)).images) <= 9
    assert len(load(str(path)).images) > 9


def test_a_buffer_can_be_read_twice_and_stays_where_it_was(clip) -> None:
    buffer = io.BytesIO(clip.read_bytes())
    buffer.seek(5)
    assert numbers(load(buffer).images) == numbers(load(buffer).images)
    assert buffer.tell() == 5
