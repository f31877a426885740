"""Side data, colour tags and times of any kind: pictures and sound, or an error with the file's name."""

from __future__ import annotations

import io
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import constant, write_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fast_animatediff.video import Clip, Selection, load_clip, open_source

EVERY = Selection(Fraction(0))
SALMON = (200, 90, 30)
YCGCO = 8


def load(path: Path, selection: Selection = EVERY) -> tuple[Clip, torch.Tensor | None]:
    """The clip and its sound, decoded."""
    with open_source(str(path), path.name) as source:
        clip = load_clip(source, selection, "source")
        audio = source.audio(clip.start, clip.seconds)
    return clip, None if audio is None else audio["waveform"]


def flat(height: int = 32, width: int = 48) -> np.ndarray:
    return np.broadcast_to(np.array(SALMON, np.uint8), (height, width, 3)).copy()


def plain(pix_fmt: str, luma: float, *chroma: float) -> av.VideoFrame:
    """A frame of one colour, in levels of 8 bits."""
    frame = av.VideoFrame(48, 32, pix_fmt)
    depth, kind = (4, "<u2") if "10" in pix_fmt else (1, np.uint8)
    for plane, level in zip(frame.planes, (luma, *chroma), strict=True):
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, round(level * depth), kind))
    return frame


def salmon(pix_fmt: str, red_part: float, blue_part: float) -> av.VideoFrame:
    """The colour by a matrix with those parts of red and blue in its luma, in limited range."""
    red, green, blue = SALMON
    luma = red_part * red + (1 - red_part - blue_part) * green + blue_part * blue
    chroma = (blue - luma) / (2 - 2 * blue_part), (red - luma) / (2 - 2 * red_part)
    return plain(pix_fmt, luma * 219 / 255 + 16, *(value * 224 / 255 + 128 for value in chroma))


BT709, BT601 = (0.2126, 0.0722), (0.299, 0.114)


def tagged(path: Path, frame: av.VideoFrame, **tags: int) -> Path:
    """Three such frames, lossless, with those tags in the container."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = frame.width, frame.height, frame.format.name
        for name, value in tags.items():
            setattr(video.codec_context, name, value)
            setattr(frame, name, value)
        for k in range(3):
            frame.pts, frame.time_base = k, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def error(clip: Clip) -> float:
    return (clip.images * 255 - torch.tensor(SALMON)).abs().max().item()


@pytest.mark.parametrize("transfer, primaries", [*itertools.product([0, 2, 9, 10, 17], [0, 2, 3, 22])])
def test_transfer_and_primaries_of_any_kind_change_nothing(tmp_path, transfer, primaries) -> None:
    tags = {"colorspace": 1, "color_trc": transfer, "color_primaries": primaries}
    path = tagged(tmp_path / "clip.mkv", salmon("yuv420p", *BT709), **tags)
    assert error(load(path)[0]) < 4


@pytest.mark.parametrize("matrix", [0, 3, *range(10, 18)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_a_matrix_that_can_not_be_used_is_taken_for_the_usual_one(tmp_path, matrix, pix_fmt) -> None:
    clip, _ = load(tagged(tmp_path / "clip.mkv", salmon(pix_fmt, *BT601), colorspace=matrix))
    assert len(clip.images) == 3 and error(clip) < (40 if matrix == 10 else 4)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv422p10le"])
def test_ycgco_is_decoded_by_its_own_matrix(tmp_path, pix_fmt) -> None:
    """Luma, green and orange of one colour, in limited range."""
    red, green, blue = SALMON
    luma = (red / 4 + green / 2 + blue / 4) * 219 / 255 + 16
    chroma = [(-red / 4 + green / 2 - blue / 4) * 224 / 255 + 128, (red - blue) / 2 * 224 / 255 + 128]
    frame = plain(pix_fmt, luma, *chroma)
    assert error(load(tagged(tmp_path / "clip.mkv", frame, colorspace=YCGCO))[0]) < 4


@pytest.mark.parametrize("turn, shape", [(1, (32, 48)), (3, (32, 48)), (6, (48, 32)), (8, (48, 32))])
def test_frames_that_carry_a_camera_s_notes_are_decoded(tmp_path, turn, shape) -> None:
    """MJPEG of a camera, each frame with EXIF data, its orientation among them."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = turn, "Camera"
    packed = io.BytesIO()
    Image.fromarray(flat()).save(packed, "JPEG", exif=exif, quality=95)
    path = tmp_path / "camera.avi"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=10)
        video.width, video.height, video.pix_fmt = 48, 32, "yuvj420p"
        for k in range(6):
            packet = av.Packet(packed.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = video, k, k, Fraction(1, 10)
            packet.is_keyframe = True
            container.mux(packet)
    clip, _ = load(path)
    assert len(clip.images) == 6 and clip.images.shape[1:3] == shape and error(clip) < 8


ALL = st.sampled_from
SOUNDS = {
    ".mp4": "aac",
    ".mov": "pcm_s16le",
    ".mkv": "flac",
    ".ts": "aac",
    ".avi": "pcm_s16le",
    ".flv": "aac",
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=ALL(sorted(SOUNDS)),
    codec=ALL(["libx264", "ffv1", "mjpeg", "mpeg4"]),
    tags=st.tuples(st.integers(0, 17), st.integers(0, 22), st.integers(0, 18), st.integers(0, 2)),
    origin=ALL([0, 1, 90, 5000]),
    channels=st.integers(0, 9),
    rotation=ALL([None, 90, 180, 270]),
    gap=ALL([0, 1, 30]),
    fps=ALL([0, 8, 120]),
    seconds=ALL([0, Fraction(1, 2), 2]),
    start=ALL([0, Fraction(1, 3), Fraction(13, 10), 40]),
    scratches=st.lists(st.integers(0, 10**6), max_size=3),
)
def test_any_file_gives_frames_and_sound_or_an_error_with_its_name(
    tmp_path, suffix, codec, tags, origin, channels, rotation, gap, fps, seconds, start, scratches
) -> None:
    path = tmp_path / f"any{suffix}"
    try:
        write_any(path, codec, tags, origin, channels, rotation, gap)
    except (av.error.FFmpegError, ValueError):
        return  # what can't be written so
    data = bytearray(path.read_bytes())
    for at in scratches:
        data[at % len(data)] ^= 0x5A
    path.write_bytes(data)
    try:
        clip, sound = load(path, Selection(Fraction(fps), Fraction(seconds), Fraction(start)))
    except ValueError as found:
        assert path.name in str(found) or " frames of " in str(found)
        return
    assert len(clip.images) > 0 and bool(torch.isfinite(clip.images).all())
    assert sound is None or sound.shape[-1] > 0


def write_any(path, codec, tags, origin, channels, rotation, gap) -> None:
    names = ("colorspace", "color_primaries", "color_trc", "color_range")
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=10)
        video.width, video.height = 48, 32
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for name, value in zip(names, tags, strict=True):
            setattr(video.codec_context, name, value)
        if rotation is not None:
            video.set_display_rotation(rotation)
        audio = container.add_stream(SOUNDS[path.suffix], rate=8000) if channels else None
        if audio is not None:
            audio.layout = f"{channels}c" if channels < 9 else f"{channels} channels"
        for k in range(10):
            frame = salmon(video.pix_fmt, *BT601)
            frame.pts, frame.time_base = 10 * origin + k + (gap if k > 5 else 0), Fraction(1, 10)
            container.mux(video.encode(frame))
        if audio is not None:
            sound = av.AudioFrame(format=audio.format.name, layout=audio.layout, samples=8000)
            sound.sample_rate, sound.pts, sound.time_base = 8000, origin * 8000, Fraction(1, 8000)
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
        container.mux(video.encode(None))


def test_seeking_and_tags_together_in_a_real_clip(tmp_path) -> None:
    path = write_video(
        tmp_path / "clip.mp4", constant(Fraction(25), Fraction(4)), color_trc=9, colorspace=YCGCO
    )
    assert len(load(path, Selection(Fraction(5), Fraction(1), Fraction(2)))[0].images) == 5
