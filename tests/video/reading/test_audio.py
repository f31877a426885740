"""Sound that belongs to the frames: the same span, in step, and only decoded when it is wanted."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import barcode, constant, write_video

from fast_animatediff.video import (
    Export,
    Limits,
    Selection,
    SourceAudio,
    TensorSource,
    export_video,
    load_clip,
    open_source,
)

RATE = 48000


def clicks(seconds: int, rate: int = RATE, channels: int = 2) -> dict[str, object]:
    """A tenth of a second of tone at the beginning of every second, louder from second to second."""
    time = torch.arange(seconds * rate) / rate
    tone = torch.sin(2 * torch.pi * 440 * time) * (time % 1 < 0.1) * (time.floor() + 1) / (seconds + 1)
    return {"waveform": tone.expand(1, channels, -1), "sample_rate": rate}


def write(path: Path, audio: dict[str, object], seconds: int) -> Path:
    """A bar-coded clip of 10 fps with sound."""
    images = torch.from_numpy(np.stack([barcode(k) for k in range(seconds * 10)])).float() / 255
    settings = Export(Fraction(10), path.suffix[1:])
    return export_video(images, path.parent, path.stem, 1, settings, audio=audio).rename(path)


def load(path: Path, selection: Selection) -> SourceAudio | None:
    with open_source(str(path), path.name) as source:
        clip = load_clip(source, selection, "source")
        return source.audio(clip.start, clip.seconds)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("start, seconds", [(0, 2), (1, 1), (3, 2), (Fraction(5, 2), 1)])
def test_sound_covers_the_same_span_as_the_frames(tmp_path, suffix, start, seconds) -> None:
    audio = clicks(6)
    path = write(tmp_path / f"clip{suffix}", audio, 6)
    found = load(path, Selection(Fraction(8), Fraction(seconds), Fraction(start)))
    first = int(start * RATE)
    wanted = audio["waveform"][..., first : first + seconds * RATE]
    assert found["sample_rate"] == RATE and found["waveform"].shape == wanted.shape
    # WebM rounds times to milliseconds, which are 48 samples.
    shifts = range(-96, 97, 12)
    errors = [(found["waveform"].roll(shift, -1) - wanted).abs().mean().item() for shift in shifts]
    assert min(errors) < 0.01 and abs(shifts[errors.index(min(errors))]) <= (48 if suffix == ".webm" else 0)


@pytest.mark.parametrize("rate", [8000, 22050, 32000, 37800, 96000, 192000])
@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_any_sample_rate_can_be_written(tmp_path, format, rate) -> None:
    path = write(tmp_path / f"clip.{format}", clicks(2, rate), 2)
    found = load(path, Selection(Fraction(10)))
    assert found["waveform"].shape[-1] == 2 * found["sample_rate"]
    loud = found["waveform"][0, 0].reshape(20, -1).abs().amax(1)
    assert loud[0] > 0.2 and loud[10] > 0.4 and loud[[3, 7, 13, 17]].max() < 0.05


@pytest.mark.parametrize("channels, heard", [(1, 1), (2, 2), (3, 2), (6, 6)])
def test_channels_are_kept_where_the_format_has_them(tmp_path, channels, heard) -> None:
    path = write(tmp_path / "clip.mp4", clicks(1, channels=channels), 1)
    assert load(path, Selection(Fraction(10)))["waveform"].shape[:2] == (1, heard)


def with_channels(path: Path, codec: str, layout: str) -> Path:
    """Two seconds of pictures with sound whose channel k is at the constant level (k + 1) / 32."""
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=10), container.add_stream(codec, rate=RATE)
        video.width, video.height, audio.layout = 80, 16, layout
        count = audio.layout.nb_channels
        levels = np.tile((np.arange(count) + 1) * 1024, 2 * RATE).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(levels, format="s16", layout=layout)
        sound.sample_rate, sound.pts = RATE, 0
        for _ in range(20):
            container.mux(video.encode(av.VideoFrame(80, 16)))
        packed = av.AudioResampler(audio.format.name, layout, RATE).resample(sound)
        for part in packed:
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("channels", range(1, 17))
def test_every_number_of_channels_is_read_in_its_order(tmp_path, channels) -> None:
    path = with_channels(tmp_path / "clip.mov", "pcm_s16le", f"{channels} channels")
    waveform = load(path, Selection(Fraction(10)))["waveform"]
    assert waveform.shape == (1, channels, 2 * RATE)
    assert torch.allclose(waveform[0, :, RATE], (torch.arange(channels) + 1) / 32, atol=1e-3)


@pytest.mark.parametrize(
    "layout", ["mono", "stereo", "2.1", "3.0", "quad", "4.0", "5.0", "5.1", "6.1", "7.1"]
)
@pytest.mark.parametrize("suffix, codec", [(".mkv", "flac"), (".mp4", "aac")])
def test_planar_sound_of_every_layout_is_read(tmp_path, layout, suffix, codec) -> None:
    """PyAV reads past the planes of a frame that has exactly eight."""
    try:
        path = with_channels(tmp_path / f"clip{suffix}", codec, layout)
    except (av.error.FFmpegError, ValueError):
        pytest.skip(f"{codec} has no {layout}")
    waveform = load(path, Selection(Fraction(10)))["waveform"]
    assert waveform.shape == (1, av.AudioLayout(layout).nb_channels, 2 * RATE)


def test_more_sound_than_fits_into_memory_is_refused_before_it_is_decoded(tmp_path) -> None:
    path = with_channels(tmp_path / "clip.mov", "pcm_s16le", "16 channels")
    with open_source(str(path), path.name, Limits(max_bytes=10**7)) as source:
        audio = source.audio(Fraction(0), Fraction(2))
    with pytest.raises(ValueError, match=r"2 seconds of the sound of clip\.mov need .*GB"):
        audio["waveform"]


def test_sound_longer_than_the_frames_is_cut(tmp_path) -> None:
    path = write(tmp_path / "clip.mp4", clicks(9), 2)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base < 2.05
        assert container.streams.video[0].frames == 20


def test_sound_shorter_than_the_frames_takes_none_away(tmp_path) -> None:
    path = write(tmp_path / "clip.mp4", clicks(1), 3)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 30


def test_a_clip_without_sound_has_no_audio(tmp_path) -> None:
    path = write_video(tmp_path / "clip.mp4", constant(Fraction(10), Fraction(2)))
    assert load(path, Selection(Fraction(10))) is None


def test_silence_where_the_sound_ends_before_the_frames(tmp_path) -> None:
    path = write(tmp_path / "clip.mp4", clicks(1), 3)
    waveform = load(path, Selection(Fraction(10)))["waveform"]
    assert waveform.shape[-1] == 3 * RATE
    assert waveform[..., :RATE].abs().max() > 0.3 and waveform[..., RATE + 4000 :].abs().max() == 0


def test_sound_is_decoded_only_when_it_is_read(tmp_path) -> None:
    path = write(tmp_path / "clip.mp4", clicks(2), 2)
    found = load(path, Selection(Fraction(10)))
    path.unlink()
    assert list(found) == ["waveform", "sample_rate"]
    with pytest.raises(FileNotFoundError, match=r"clip\.mp4"):
        found["waveform"]


def test_sound_is_an_audio_value_of_the_host(tmp_path) -> None:
    found = load(write(tmp_path / "clip.mp4", clicks(2), 2), Selection(Fraction(10)))
    copied = {**found}
    assert set(copied) == {"waveform", "sample_rate"} and copied["waveform"] is found["waveform"]
    again = write(tmp_path / "again.mp4", found, 2)
    assert load(again, Selection(Fraction(10)))["waveform"].shape == found["waveform"].shape


def later(path: Path, seconds: Fraction) -> Path:
    """An MPEG-TS made from an mp4 packet by packet, so many seconds later."""
    late = path.with_suffix(".ts")
    with av.open(str(path)) as source, av.open(str(late), "w") as target:
        streams = {s: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                shift = int(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream]
                target.mux(packet)
    return late


def test_a_clip_whose_times_do_not_begin_at_zero_keeps_sound_in_step(tmp_path) -> None:
    late = later(write(tmp_path / "clip.mp4", clicks(4), 4), Fraction(10))
    waveform = load(late, Selection(Fraction(10), Fraction(2), Fraction(2)))["waveform"]
    loud = waveform[0, 0].reshape(20, -1).abs().amax(1)
    assert loud[0] > 0.4 and loud[10] > 0.6 and loud[[2, 5, 8, 12, 18]].max() < 0.05


def test_sound_whose_form_changes_midway_goes_on_in_the_first_one(tmp_path) -> None:
    """As in a broadcast: one second in mono at 32 kHz, half a second of nothing, one second in stereo at 48 kHz."""
    mono = later(write(tmp_path / "mono.mp4", clicks(1, 32000, 1), 1), Fraction(1))
    stereo = later(write(tmp_path / "stereo.mp4", clicks(1), 1), Fraction(5, 2))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(mono.read_bytes() + stereo.read_bytes())
    found = load(joined, Selection(Fraction(10)))
    waveform, rate = found["waveform"], found["sample_rate"]
    assert rate == 32000 and waveform.shape == (1, 1, 5 * rate // 2)
    loud = waveform[0, 0].reshape(25, -1).abs().amax(1)
    assert loud[0] > 0.3 and loud[15] > 0.3 and loud[[4, 7, 12, 18, 22]].max() < 0.05


def test_max_frames_cuts_the_sound_too(tmp_path) -> None:
    path = write(tmp_path / "clip.mp4", clicks(2), 2)
    found = load(path, Selection(Fraction(0), max_frames=7))
    assert found["waveform"].shape[-1] == round(0.7 * RATE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_sound_that_is_not_finite_is_refused(tmp_path, value) -> None:
    audio = clicks(1)
    audio["waveform"] = audio["waveform"].clone()
    audio["waveform"][0, 0, 5000] = value
    with pytest.raises(ValueError, match="The audio holds NaN or infinite values"):
        write(tmp_path / "clip.mp4", audio, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(0, 2, 100), (1, 0, 100), (2, 100)])
def test_sound_of_no_known_shape_is_refused(tmp_path, shape) -> None:
    with pytest.raises(ValueError, match="Expected audio"):
        write(tmp_path / "clip.mp4", {"waveform": torch.zeros(shape), "sample_rate": RATE}, 1)


def test_sound_of_frames_in_memory_is_cut_to_the_selection() -> None:
    audio = clicks(4)
    with TensorSource(torch.zeros(40, 16, 16, 3), Fraction(10), audio) as source:
        clip = load_clip(source, Selection(Fraction(8), Fraction(1), Fraction(2)), "source")
        found = source.audio(clip.start, clip.seconds)
    assert torch.equal(found["waveform"], audio["waveform"][..., 2 * RATE : 3 * RATE])
