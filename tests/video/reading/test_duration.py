"""Headers that say when a file ends, how long its sound is, or nothing: no clip is refused or called damaged for it."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, barcode, numbers

from fast_animatediff.video import Limits, Selection, describe_clip, load_clip, open_source

RATE = 16000


def write(path: Path, begins: tuple[int, int], sound: int, codecs: tuple[str, str], **options: str) -> Path:
    """50 frames at 25 fps and `sound` seconds of silence, each beginning at its time in seconds."""
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(codecs[0], rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream(codecs[1], rate=RATE, layout="mono")
        for k in range(50):
            frame = av.VideoFrame.from_ndarray(barcode(k), format="rgb24")
            frame.pts, frame.time_base = begins[0] * 25 + k, Fraction(1, 25)
            container.mux(video.encode(frame))
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, sound * RATE), np.int16), format="s16", layout="mono"
        )
        silence.sample_rate, silence.pts, silence.time_base = RATE, begins[1] * RATE, Fraction(1, RATE)
        for stream, last in ((video, None), (audio, silence), (audio, None)):
            container.mux(stream.encode(last))
    return path


X264, PCM = "libx264", "pcm_s16le"
LIVE_FLV = {"flvflags": "no_duration_filesize"}


@pytest.mark.parametrize(
    "name, begins, sound, codecs, options, told",
    [
        ("live.flv", (1000, 1000), 2, (X264, PCM), LIVE_FLV, 2),
        ("late.mkv", (30, 0), 32, (X264, PCM), {}, 2),
        ("late.mov", (30, 0), 32, (X264, PCM), {}, 2),
        ("fragments.mov", (1, 0), 3, (X264, PCM), {"movflags": "frag_keyframe+delay_moov"}, 2),
        ("late.flv", (30, 0), 32, (X264, PCM), {}, 2),
        ("late.ts", (30, 0), 32, (X264, "mp2"), {}, 2),
        ("between.mkv", (30, 0), 38, (X264, PCM), {}, 2),
        ("long_sound.flv", (0, 0), 60, (X264, PCM), {}, None),
        ("live.mkv", (0, 0), 2, ("ffv1", PCM), {"live": "1"}, None),
    ],
)
def test_all_frames_are_loaded_without_a_warning(
    tmp_path, name, begins, sound, codecs, options, told, caplog
) -> None:
    path = write(tmp_path / name, begins, sound, codecs, **options)
    limits = Limits(max_frames=60)
    for selection in (Selection(Fraction(25)), Selection(Fraction(0))):
        with open_source(str(path), name, limits) as source:
            assert numbers(load_clip(source, selection, "source", limits=limits).images) == list(range(50))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    if told:
        with open_source(str(path), name) as source:
            described = describe_clip(source, Selection(Fraction(25)), "source")
        assert described.frames in (49, 50, 51) and abs(described.duration - told) < Fraction(1, 10)


def test_fragments_of_a_broadcast_are_as_long_as_their_frames(tmp_path, caplog) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = write(tmp_path / "live.mov", (0, 0), 2, (X264, PCM), **fragments)
    data = bytearray(path.read_bytes())
    for found in re.finditer(b"tfdt", bytes(data)):
        ticks_per_second = 12800 if data[bytes(data).rindex(b"tfhd", 0, found.start()) + 11] == 1 else RATE
        begin = int.from_bytes(data[found.end() + 4 : found.end() + 12]) + 1000 * ticks_per_second
        data[found.end() + 4 : found.end() + 12] = begin.to_bytes(8)
    path.write_bytes(data)
    limits = Limits(max_frames=60)
    for selection in (Selection(Fraction(25)), Selection(Fraction(0))):
        with open_source(str(path), path.name, limits) as source:
            assert abs(source.duration - 2) < Fraction(1, 10)
            assert numbers(load_clip(source, selection, "source", limits=limits).images) == list(range(50))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
