"""Which part of a clip is read, and when reading stops."""

from __future__ import annotations

import logging
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from clips import HEIGHT, WIDTH, barcode, constant, numbers, write_video, write_webp
from test_decode import load

from fast_animatediff.video import Limits, Selection


def test_every_source_frame_and_the_source_rate_at_fps_zero(tmp_path) -> None:
    ntsc = Fraction(30000, 1001)
    for name in ("clip.mp4", "clip.mkv", "clip.ts", "clip.webm"):
        clip = load(write_video(tmp_path / name, constant(ntsc, Fraction(1))))
        assert (numbers(clip.images), clip.fps) == (list(range(29)), ntsc)
        assert clip.seconds == 29 / ntsc


@pytest.mark.parametrize(
    "name", [f"long.{kind}" for kind in ("mp4", "mov", "mkv", "ts", "webm", "avi", "gif")]
)
@pytest.mark.parametrize("start", [Fraction(1, 2), Fraction(5), Fraction(81, 10)])
def test_a_late_start_gives_the_same_frames_as_reading_from_the_beginning(tmp_path, name, start) -> None:
    reordered = (
        {"options": {"preset": "medium", "x264-params": "keyint=40"}}
        if name == "long.avi"
        else {"gop_size": 40}
    )
    path = write_video(tmp_path / name, constant(Fraction(25), Fraction(10)), **reordered)
    clip = load(path, Selection(Fraction(10), Fraction(1), start))
    assert numbers(clip.images) == [int((start + Fraction(k, 10)) * 25) for k in range(10)]


def test_reading_stops_with_the_span_however_long_the_file_is(tmp_path) -> None:
    decoded = []
    path = write_video(tmp_path / "long.mp4", constant(Fraction(25), Fraction(40)), gop_size=25)
    load(path, Selection(Fraction(8), Fraction(1)), progress=lambda done, total: decoded.append(done))
    load(
        path,
        Selection(Fraction(8), Fraction(1), Fraction(30)),
        progress=lambda done, total: decoded.append(done),
    )
    assert len(decoded) < 2 * (25 + 25 + 5)


def test_max_frames_is_a_cap(tmp_path) -> None:
    path = write_video(tmp_path / "clip.mp4", constant(Fraction(24), Fraction(2)))
    assert numbers(load(path, Selection(Fraction(8), Fraction(2), max_frames=5)).images) == [0, 3, 6, 9, 12]
    assert len(load(path, Selection(Fraction(0), max_frames=7)).images) == 7


def test_a_start_after_the_end_is_an_error_that_says_how_long_the_clip_is(tmp_path) -> None:
    path = write_video(tmp_path / "short.mp4", constant(Fraction(24), Fraction(2)))
    for start in (Fraction(2), Fraction(60)):
        with pytest.raises(ValueError, match=r"short\.mp4 has no frame after .* it is 2 s long"):
            load(path, Selection(Fraction(8), start=start))


def test_memory_and_frame_limits_are_checked_before_decoding(tmp_path) -> None:
    path = write_video(tmp_path / "clip.mp4", constant(Fraction(24), Fraction(2)))
    touched = []
    needed = 16 * WIDTH * HEIGHT * 3 * 4
    with pytest.raises(ValueError, match=r"16 frames of 80x16 need .*GB.*max_frames"):
        load(
            path,
            Selection(Fraction(8)),
            limits=Limits(max_bytes=needed - 1),
            progress=lambda *_: touched.append(1),
        )
    with pytest.raises(ValueError, match="16 frames, more than the limit of 15"):
        load(
            path, Selection(Fraction(8)), limits=Limits(max_frames=15), progress=lambda *_: touched.append(1)
        )
    assert not touched
    assert len(load(path, Selection(Fraction(8)), limits=Limits(max_bytes=needed)).images) == 16


def test_asking_for_more_than_there_is_gives_what_there_is(tmp_path) -> None:
    """An animated WebP does not say how long it is before its last frame."""
    endless = Selection(Fraction(10), Fraction(100_000))
    assert numbers(load(write_webp(tmp_path / "clip.webp", [100] * 150), endless).images) == list(range(150))
    path = write_video(tmp_path / "clip.mp4", constant(Fraction(10), Fraction(15)))
    assert numbers(load(path, endless).images) == list(range(150))


def test_half_precision_frames_are_those_of_the_host(tmp_path) -> None:
    path = write_video(tmp_path / "clip.mp4", constant(Fraction(24), Fraction(1)))
    half = load(path, dtype=torch.float16).images
    assert half.dtype == torch.float16 and (half.float() - load(path).images).abs().max() < 1e-3


def test_a_file_that_understates_its_length_is_still_read_to_the_end(tmp_path, caplog) -> None:
    """The matroska duration is overwritten with a tenth of the truth."""
    path = write_video(tmp_path / "clip.mkv", constant(Fraction(24), Fraction(4)))
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = np.array([400.0], ">f8").tobytes()
    path.write_bytes(data)
    assert numbers(load(path, Selection(Fraction(24))).images) == list(range(96))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_sound_longer_than_the_pictures_is_no_damage(tmp_path, caplog) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=24), container.add_stream("aac", rate=48000)
        video.width, video.height = WIDTH, HEIGHT
        for number in range(24):
            container.mux(video.encode(av.VideoFrame.from_ndarray(barcode(number), format="rgb24")))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 3 * 48000), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 48000, 0
        for stream, last in ((video, None), (audio, sound), (audio, None)):
            container.mux(stream.encode(last))
    assert len(load(path).images) == 24
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_progress_reaches_its_total_and_can_cancel(tmp_path) -> None:
    path = write_video(tmp_path / "clip.mp4", constant(Fraction(24), Fraction(2)))
    calls: list[tuple[int, int]] = []
    load(path, Selection(Fraction(8), Fraction(1)), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (8, 8) and calls == sorted(calls)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(path, Selection(Fraction(8)), progress=stop)
