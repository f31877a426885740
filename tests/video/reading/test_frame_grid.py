"""Every source rate in every container to every fps: the frames that come out, read by their bar codes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import HEIGHT, WIDTH, constant, number, numbers, write_video, write_webp

from fast_animatediff.video import Selection, load_clip, open_source
from fast_animatediff.video.timing import TimedFrame, frames_played_at

RATES = [Fraction(r) for r in (12, 24, 25, 30, 50, 60)]
NTSC = [Fraction(r * 1000, 1001) for r in (24, 30, 60)]
CONTAINERS = (".mp4", ".mkv", ".ts", ".webm")
TARGETS = [Fraction(fps) for fps in range(1, 31)]
WHOLE_WAY = [Fraction(fps) for fps in (7, 8, 24, 30)]
SECONDS = Fraction(5, 4)
HALF_A_TICK = {".gif": 0.005}  # seconds; 0.0005 elsewhere
UNEVEN = [Fraction(cs, 100) for cs in (0, 4, 7, 14, 16, 26, 40, 42, 53, 70, 73, 90, 100, 102, 120)]


def shown_times(path: Path) -> tuple[list[Fraction], Fraction]:
    """When each frame is shown and when the last one ends, from the container alone, without decoding."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        tick = container.streams.video[0].time_base
    packets.sort(key=lambda packet: packet.pts)
    times = [(packet.pts - packets[0].pts) * tick for packet in packets]
    return times, times[-1] + (packets[-1].duration * tick or times[-1] - times[-2])


def expected(times: Sequence[Fraction], end: Fraction, fps: Fraction, tolerance: float) -> list[int]:
    """For each k / fps the last frame that has appeared, counted one by one."""
    chosen = []
    for k in range(10**6):
        moment = float(k / fps) + tolerance
        if k / fps >= SECONDS or moment >= float(end) - 1e-9:
            return chosen
        chosen.append(sum(1 for time in times if float(time) <= moment + 1e-9) - 1)
    raise AssertionError


def check(path: Path, times: Sequence[Fraction], end: Fraction) -> None:
    """Every fps on the frames as the file gives them, and some of them all the way to the images."""
    wanted = {fps: expected(times, end, fps, HALF_A_TICK.get(path.suffix, 0.0005)) for fps in TARGETS}
    with open_source(str(path), path.name) as source:
        shown = [
            TimedFrame(t.pts_seconds, t.duration_seconds, number(source.pixels(t.frame, WIDTH, HEIGHT)))
            for t in source.frames()
        ]
    found = {}
    for fps in TARGETS:
        picked = frames_played_at(shown, Selection(fps, SECONDS), source.tolerance)
        found[fps] = [timed.frame for timed, repeats in picked for _ in range(repeats)]
    assert found == wanted
    for fps in WHOLE_WAY:
        with open_source(str(path), path.name) as source:
            assert numbers(load_clip(source, Selection(fps, SECONDS), "source").images) == wanted[fps]


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_whole_number_rates_give_the_same_frames_in_every_container(tmp_path, rate, suffix) -> None:
    times = constant(rate, SECONDS)
    check(write_video(tmp_path / f"clip{suffix}", times), times, len(times) / rate)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("rate", NTSC, ids=lambda rate: f"{float(rate):.2f}")
def test_ntsc_rates_give_the_same_frames_in_every_container(tmp_path, rate, suffix) -> None:
    times = constant(rate, SECONDS)
    check(write_video(tmp_path / f"clip{suffix}", times), times, len(times) / rate)


@pytest.mark.parametrize("suffix", [*CONTAINERS, ".gif"])
def test_uneven_frames_are_chosen_by_their_times(tmp_path, suffix) -> None:
    path = write_video(tmp_path / f"clip{suffix}", UNEVEN)
    check(path, *shown_times(path))


def ticks(rate: Fraction, per_second: int) -> list[int]:
    """How long each frame is shown in a file that counts time in whole ticks; twice as long as is looked at."""
    at = [round(time * per_second) for time in constant(rate, 2 * SECONDS)]
    return [then - now for now, then in itertools.pairwise(at)]


@pytest.mark.parametrize("rate", [*RATES, *NTSC], ids=lambda rate: f"{float(rate):.2f}")
def test_gif_delays_are_followed_as_browsers_do(tmp_path, rate) -> None:
    delays = ticks(rate, 100)
    stored = [Fraction(sum(delays[:k]), 100) for k in range(len(delays))]
    played = [delay if delay > 1 else 10 for delay in delays]
    times = [Fraction(sum(played[:k]), 100) for k in range(len(played))]
    check(write_video(tmp_path / "clip.gif", stored), times, 2 * SECONDS)


@pytest.mark.parametrize("rate", [*RATES, *NTSC], ids=lambda rate: f"{float(rate):.2f}")
def test_webp_of_every_rate_gives_the_frames_on_screen(tmp_path, rate) -> None:
    durations = ticks(rate, 1000)
    times = [Fraction(sum(durations[:k]), 1000) for k in range(len(durations))]
    check(write_webp(tmp_path / "clip.webp", durations), times, 2 * SECONDS)


@pytest.mark.parametrize("durations", [[125] * 10, [20, 200, 50, 400] * 2])
def test_uneven_webp_durations_are_followed(tmp_path, durations) -> None:
    times = [Fraction(sum(durations[:i]), 1000) for i in range(len(durations))]
    check(write_webp(tmp_path / "clip.webp", durations), times, Fraction(sum(durations), 1000))


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
@pytest.mark.parametrize("origin", [Fraction(7, 3), Fraction(83, 1000)], ids=["2.333", "0.083"])
@pytest.mark.parametrize("rate", [Fraction(24), NTSC[1]], ids=["24", "29.97"])
def test_a_clip_that_does_not_begin_at_zero_is_counted_from_its_first_frame(
    tmp_path, suffix, origin, rate
) -> None:
    times = constant(rate, SECONDS)
    check(write_video(tmp_path / f"clip{suffix}", times, origin=origin), times, len(times) / rate)
