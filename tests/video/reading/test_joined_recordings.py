"""Recordings joined as `cat a.ts b.ts` and `cat a.mkv b.mkv` join them, where the times of the second begin anew: one clip, in step."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import HEIGHT, OPTIONS, WIDTH, barcode, numbers, write_video

from fast_animatediff.video import Clip, Selection, load_clip, open_source

RATE = 48000
PICTURES, SOUND = {".webm": "libvpx-vp9"}, {".webm": "libopus"}


def tone(hertz: int, seconds: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(seconds * RATE) / RATE)).astype(np.float32)[None]


def with_tone(
    path: Path,
    hertz: int,
    seconds: int,
    first: int = 0,
    origin: Fraction = Fraction(0),
    sound_seconds: int | None = None,
) -> Path:
    """A bar-coded clip of 25 fps, counted from `first`, with a tone (none for 0 hertz), as long as the pictures if nothing else is said."""
    with av.open(str(path), "w") as container:
        codec = PICTURES.get(path.suffix, "libx264")
        video = container.add_stream(codec, rate=25)
        if hertz:
            audio = container.add_stream(SOUND.get(path.suffix, "aac"), rate=RATE)
            audio.layout = "mono"
        video.width, video.height = WIDTH, HEIGHT
        video.options, video.gop_size = OPTIONS[codec], 10
        for k in range(seconds * 25):
            frame = av.VideoFrame.from_ndarray(barcode(first + k), format="rgb24")
            frame.pts, frame.time_base = round(origin * 25) + k, Fraction(1, 25)
            container.mux(video.encode(frame))
        if not hertz:
            container.mux(video.encode(None))
            return path
        sound = av.AudioFrame.from_ndarray(
            tone(hertz, sound_seconds or seconds), format="fltp", layout="mono"
        )
        sound.sample_rate, sound.pts, sound.time_base = RATE, round(origin * RATE), Fraction(1, RATE)
        for stream, last in ((video, None), (audio, sound), (audio, None)):
            container.mux(stream.encode(last))
    return path


def heard(audio: dict[str, object]) -> list[int]:
    """The tone in the middle of every half second, in steps of 10 hertz."""
    wave, rate = audio["waveform"][0, 0], audio["sample_rate"]
    parts = [wave[at + rate // 10 : at + rate // 5] for at in range(0, len(wave) - rate // 4, rate // 2)]
    return [int(torch.fft.rfft(part).abs().argmax()) * 10 for part in parts]


def joined(*parts: Path) -> Path:
    path = parts[0].with_stem("joined")
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def load(path: Path, selection: Selection) -> tuple[Clip, dict[str, object]]:
    """The clip and its sound, decoded."""
    with open_source(str(path), path.name) as source:
        clip = load_clip(source, selection, "source")
        return clip, {**source.audio(clip.start, clip.seconds)}


@pytest.mark.parametrize("origins", [(0, 0), (5, 0), (2, 1)], ids=str)
@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 2), Fraction(13, 10), Fraction(5, 2)], ids=str)
def test_joined_recordings_go_on_in_pictures_and_sound(tmp_path, origins, start) -> None:
    first = with_tone(tmp_path / "a.ts", 440, 2, origin=Fraction(origins[0]))
    second = with_tone(tmp_path / "b.ts", 880, 2, 50, origin=Fraction(origins[1]))
    clip, audio = load(joined(first, second), Selection(Fraction(10), Fraction(0), start))
    assert numbers(clip.images) == [int((start + Fraction(k, 10)) * 25) for k in range(len(clip.images))]
    assert abs(len(clip.images) - (4 - start) * 10) <= 1
    changes = int((2 - start) * 2) if start < 2 else 0
    assert heard(audio)[:changes] == [440] * changes and set(heard(audio)[changes + 1 :]) == {880}


@pytest.mark.parametrize(
    "start", [Fraction(0), Fraction(3, 2), Fraction(3), Fraction(9, 2), Fraction(7)], ids=str
)
@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_joined_matroska_recordings_keep_their_own_sound(tmp_path, suffix, start) -> None:
    first = with_tone(tmp_path / f"a{suffix}", 440, 2)
    second = with_tone(tmp_path / f"b{suffix}", 880, 6, 50)
    clip, audio = load(joined(first, second), Selection(Fraction(10), Fraction(0), start))
    assert numbers(clip.images) == [int((start + Fraction(k, 10)) * 25) for k in range(len(clip.images))]
    assert abs(len(clip.images) - (8 - start) * 10) <= 1
    assert heard(audio)[:-1] == (4 * [440] + 12 * [880])[int(start * 2) : -1]


def test_a_long_pause_of_a_matroska_recording_stays_where_it_is(tmp_path) -> None:
    """Screen recorders write no frames while nothing moves."""
    path = tmp_path / "clip.mkv"
    write_video(path, [Fraction(k, 10) for k in (*range(10), *range(200, 210))])
    with open_source(str(path), path.name) as source:
        clip = load_clip(source, Selection(Fraction(10)), "source")
    assert numbers(clip.images)[::10] == [0, *([9] * 19), 10]


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_matroska_recording_that_becomes_faster_than_its_header_says_is_one(tmp_path, suffix) -> None:
    path = tmp_path / f"clip{suffix}"
    write_video(path, [Fraction(k) for k in range(3)] + [2 + Fraction(k, 25) for k in range(1, 51)])
    with open_source(str(path), path.name) as source:
        clip = load_clip(source, Selection(Fraction(25)), "source")
    assert numbers(clip.images)[:100] == [0] * 25 + [1] * 25 + list(range(2, 52))


@pytest.mark.parametrize("origin, start", [(0, 9), (0, 15), (3, 5), (3, 9), (3, 12)])
def test_a_start_in_any_of_the_joined_recordings_finds_its_frames(tmp_path, origin, start) -> None:
    first = with_tone(tmp_path / "a.ts", 440, 8)
    second = with_tone(tmp_path / "b.ts", 880, 8, 200, origin=Fraction(origin))
    clip, audio = load(joined(first, second), Selection(Fraction(10), Fraction(1, 2), Fraction(start)))
    assert numbers(clip.images) == [int((start + Fraction(k, 10)) * 25) for k in range(5)]
    assert heard(audio) == [440 if start < 8 else 880]


@pytest.mark.parametrize("sound", [2, 3, 4], ids=["less sound", "as much", "more sound"])
@pytest.mark.parametrize("origin", [0, 1, 3600, 50_000], ids="from {} s on".format)
def test_each_recording_keeps_its_sound_in_step_whatever_came_before(tmp_path, sound, origin) -> None:
    """Where the first has less sound it is followed by silence; where it has more, the second's takes its place."""
    first = with_tone(tmp_path / "a.ts", 440, 3, sound_seconds=sound)
    second = with_tone(tmp_path / "b.ts", 880, 2, 75, origin=Fraction(origin))
    clip, audio = load(joined(first, second), Selection(Fraction(5)))
    assert numbers(clip.images) == [5 * k for k in range(25)]
    spoken = min(sound, 3)
    assert heard(audio) == 2 * spoken * [440] + 2 * (3 - spoken) * [0] + 4 * [880]


def test_a_recording_without_sound_is_silent_between_two_with(tmp_path) -> None:
    parts = [
        with_tone(tmp_path / "a.ts", 440, 2),
        with_tone(tmp_path / "b.ts", 0, 2, 50),
        with_tone(tmp_path / "c.ts", 880, 2, 100),
    ]
    clip, audio = load(joined(*parts), Selection(Fraction(5)))
    assert numbers(clip.images) == [5 * k for k in range(30)]
    assert heard(audio) == 4 * [440] + 4 * [0] + 4 * [880]


def write_recording(path: Path, first: int, live: bool) -> Path:
    """One second of bar codes counted from `first`; `live` as a page's MediaRecorder does it, without sizes."""
    options = {"live": "1"} if live else {}
    with av.open(str(path), "w", container_options=options) as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.options, video.gop_size = WIDTH, HEIGHT, OPTIONS["libx264"], 5
        for k in range(25):
            frame = av.VideoFrame.from_ndarray(barcode(first + k), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("start", [0, 1, 3], ids="from {} s on".format)
@pytest.mark.parametrize("buffered", [False, True], ids=["a file", "in memory"])
@pytest.mark.parametrize("kinds", ["fff", "fffff", "lf", "lff", "flff", "fflf", "lll"])
def test_any_number_of_finished_and_live_matroska_recordings_is_one_clip(
    tmp_path, kinds, buffered, start
) -> None:
    parts = [write_recording(tmp_path / f"{k}.mkv", 25 * k, kind == "l") for k, kind in enumerate(kinds)]
    start = min(start, len(kinds) - 1)
    path = joined(*parts)
    with open_source(io.BytesIO(path.read_bytes()) if buffered else str(path), path.name) as source:
        clip = load_clip(source, Selection(Fraction(5), start=Fraction(start)), "source")
    assert numbers(clip.images) == list(range(25 * start, 25 * len(kinds), 5))


@pytest.mark.parametrize("start", [Fraction(0), Fraction(3, 2), Fraction(5), Fraction(9)], ids=str)
@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_three_matroska_recordings_keep_their_own_sound(tmp_path, suffix, start) -> None:
    tones = {440: 2, 880: 6, 660: 4}
    parts = [
        with_tone(tmp_path / f"{hertz}{suffix}", hertz, seconds, first)
        for (hertz, seconds), first in zip(tones.items(), (0, 50, 200), strict=True)
    ]
    clip, audio = load(joined(*parts), Selection(Fraction(10), Fraction(0), start))
    assert numbers(clip.images) == [int((start + Fraction(k, 10)) * 25) for k in range(len(clip.images))]
    assert abs(len(clip.images) - (12 - start) * 10) <= 1
    assert heard(audio)[:-1] == (4 * [440] + 12 * [880] + 8 * [660])[int(start * 2) : -1]
