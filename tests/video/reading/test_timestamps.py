"""Files whose times repeat, begin late, begin anew or say nothing: the frames that a player would show, in step."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import constant, numbers, write_video

from fast_animatediff.video import Clip, Limits, Selection, load_clip, open_source

EVERY = Selection(Fraction(0))
CONTAINERS = (".mp4", ".mov", ".mkv", ".webm", ".ts", ".flv", ".avi")


def load(path: Path, selection: Selection = EVERY, limits: Limits | None = None) -> Clip:
    with open_source(str(path), path.name, limits) as source:
        return load_clip(source, selection, "source", limits=limits)


def retimed(path: Path, times: Sequence[Fraction], last: Fraction) -> Path:
    """A copy of a clip without reordered frames, shown at those times, the last frame for `last` seconds."""
    copy = path.with_stem(f"{path.stem}_retimed")
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        template = source.streams.video[0]
        stream = target.add_stream_from_template(template)
        packets = [packet for packet in source.demux(template) if packet.size]
        ends = [*times[1:], times[-1] + last]
        for k, (packet, time, then) in enumerate(zip(packets, times, ends, strict=True)):
            packet.pts = round(time / packet.time_base)
            packet.dts = round(min(times[k:]) / packet.time_base) - len(packets) + k  # which have to ascend
            packet.duration = round((then - time) / packet.time_base)
            packet.stream = stream
            target.mux(packet)
    return copy


def with_pauses(groups: int, repeated: Sequence[int]) -> list[Fraction]:
    """Ten frames at 24 fps, then half a second of rest, again and again; some at the time of the frame before."""
    times = [Fraction(k, 24) + Fraction(k // 10, 2) for k in range(10 * groups)]
    for k in repeated:
        times[k] = times[k - 1]
    return times


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("repeated", [[3], [3, 4, 5], [11, 25, 26, 41], range(12, 60, 7)], ids=str)
def test_frames_at_one_time_do_not_push_the_later_ones(tmp_path, suffix, repeated) -> None:
    times = with_pauses(6, repeated)
    path = write_video(tmp_path / f"clip{suffix}", constant(Fraction(24), Fraction(60, 24)))
    clip = load(retimed(path, times, Fraction(2)), Selection(Fraction(8)))
    end = times[-1] + 2 - Fraction(1, 2000)
    moments = [Fraction(k, 8) + Fraction(1, 1500) for k in range(math.ceil(end * 8))]
    assert numbers(clip.images) == [max(k for k, time in enumerate(times) if time <= m) for m in moments]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_key_frames_a_hair_early_do_not_push_the_later_ones(tmp_path, suffix) -> None:
    """As cameras that write key frames alone may time them."""
    times = constant(Fraction(25), Fraction(76, 25))
    path = write_video(tmp_path / f"clip{suffix}", times, gop_size=1)
    hasty = [times[k - 1] - Fraction(1, 500) if k % 4 == 3 else time for k, time in enumerate(times)]
    clip = load(retimed(path, hasty, Fraction(1, 25)), Selection(Fraction(25)))
    assert numbers(clip.images) == [k + (k % 4 == 2) for k in range(75)]


def test_every_frame_at_fps_zero_even_where_several_share_a_time(tmp_path) -> None:
    path = write_video(tmp_path / "clip.mp4", constant(Fraction(24), Fraction(1)))
    times = with_pauses(3, [4, 5, 12])[:24]
    assert numbers(load(retimed(path, times, Fraction(1))).images) == list(range(24))


@pytest.mark.parametrize("suffix", CONTAINERS[:-1])  # avi has no times of its own
@pytest.mark.parametrize("origin", [1000, 90_000])
def test_a_clip_that_begins_late_is_as_long_as_its_frames(tmp_path, suffix, origin, caplog) -> None:
    path = write_video(
        tmp_path / f"live{suffix}", constant(Fraction(25), Fraction(2)), origin=Fraction(origin)
    )
    limits = Limits(max_frames=60)
    assert numbers(load(path, Selection(Fraction(25)), limits).images) == list(range(50))
    assert numbers(load(path, EVERY, limits).images) == list(range(50))
    late = load(path, Selection(Fraction(25), start=Fraction(3, 2)), limits)
    assert numbers(late.images) == list(range(37, 50))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".mp4"])
def test_a_screen_recording_with_the_clock_for_its_rate_gives_its_frames(tmp_path, suffix) -> None:
    """Its header says 1000 frames per second, as browsers write it; there are 30."""
    times = [Fraction(0), Fraction(1, 1000), *(Fraction(k, 30) for k in range(1, 60))]
    path = write_video(tmp_path / f"screen{suffix}", times)
    clip = load(path, EVERY, Limits(max_frames=100))
    assert numbers(clip.images) == list(range(61))
    assert 28 < clip.fps < 32


def edited(path: Path, *edits: tuple[Fraction, Fraction]) -> Path:
    """An mp4 with an edit list: for each part how long it is and where in the media it begins, in seconds."""
    data = bytearray(path.read_bytes())
    movie, media = (struct.unpack(">I", data[data.index(box) + 16 :][:4])[0] for box in (b"mvhd", b"mdhd"))
    at = data.index(b"elst")
    old = struct.unpack(">I", data[at - 4 : at])[0]
    base = struct.unpack(">i", data[at + 16 : at + 20])[0]
    entries = b"".join(
        struct.pack(">IiI", int(length * movie), base + int(begin * media), 0x10000)
        for length, begin in edits
    )
    new = b"elst" + struct.pack(">II", 0, len(edits)) + entries
    for box in (b"elst", b"edts", b"trak", b"moov"):
        place = data.index(box) - 4
        size = struct.unpack(">I", data[place : place + 4])[0]
        data[place : place + 4] = struct.pack(">I", size + len(new) + 4 - old)
    data[at : at - 4 + old] = new
    copy = path.with_stem("edited")
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 2), Fraction(13, 10), Fraction(7, 4)], ids=str)
@pytest.mark.parametrize("begins", [(2, 0), (0, 2), (1, 1)], ids=str)
def test_an_edit_list_is_played_in_its_order_from_any_start(tmp_path, start, begins) -> None:
    reordered = {"options": {"preset": "medium", "x264-params": "keyint=100:bframes=3"}}
    whole = write_video(tmp_path / "clip.mp4", constant(Fraction(24), Fraction(3)), **reordered)
    path = edited(whole, *((Fraction(1), Fraction(begin)) for begin in begins))
    shown = [24 * begin + k for begin in begins for k in range(24)]
    found = numbers(load(path, Selection(Fraction(12), start=start)).images)
    assert found == [shown[int((start + Fraction(k, 12)) * 24)] for k in range(len(found))]
    assert abs(len(found) - (2 - start) * 12) <= 1


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("start", [Fraction(13, 10), Fraction(5), Fraction(3000), Fraction(100_000)], ids=str)
def test_a_start_after_the_end_is_said_in_every_container(tmp_path, suffix, start) -> None:
    path = write_video(tmp_path / f"short{suffix}", constant(Fraction(25), Fraction(1)))
    with pytest.raises(ValueError, match=rf"short\{suffix} has no frame after .* Lower start_seconds"):
        load(path, Selection(Fraction(8), Fraction(1), start))


def test_times_before_zero_are_counted_from_the_first_frame(tmp_path) -> None:
    path = tmp_path / "early.mkv"
    write_video(tmp_path / "clip.mkv", constant(Fraction(25), Fraction(3)))
    with (
        av.open(str(tmp_path / "clip.mkv")) as source,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - 1000, packet.dts - 1000, stream
                target.mux(packet)
    for start in (Fraction(1, 2), Fraction(13, 10), Fraction(2)):
        found = numbers(load(path, Selection(Fraction(25), Fraction(1, 2), start)).images)
        assert found == [int(start * 25 + k) for k in range(13)]
