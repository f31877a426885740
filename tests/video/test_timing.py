"""The frame rule: the frame on screen at start + k / fps, half a millisecond late."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from fast_animatediff.video.timing import (
    TOLERANCE,
    Selection,
    TimedFrame,
    exact_rate,
    exact_seconds,
    frames_played_at,
)

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
RATES = st.sampled_from([1, 6, 8, 12, 15, Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 60])
GAPS = st.lists(
    st.fractions(Fraction(1, 200), Fraction(1, 2), max_denominator=90000), min_size=1, max_size=25
)
STARTS = st.fractions(0, 5, max_denominator=1000)
SECONDS = st.fractions(0, 8, max_denominator=1000)


def timeline(gaps: list[Fraction]) -> list[TimedFrame[int]]:
    """Frames 0, 1, ... each shown for its gap."""
    return [TimedFrame(sum(gaps[:i], Fraction(0)), gap, i) for i, gap in enumerate(gaps)]


def taken(frames: list[TimedFrame[int]], selection: Selection) -> list[int]:
    return [
        timed.frame for timed, repeats in frames_played_at(iter(frames), selection) for _ in range(repeats)
    ]


def by_hand(frames: list[TimedFrame[int]], selection: Selection, longest: int = 2000) -> list[int]:
    """The rule as written down: one target after the other, each looking at every frame."""
    end = frames[-1].pts_seconds + frames[-1].duration_seconds
    chosen: list[int] = []
    for k in range(longest):
        moment = selection.start + k / selection.fps
        after = Fraction(k) / selection.fps
        if (selection.seconds and after >= selection.seconds) or moment + TOLERANCE >= end:
            break
        if selection.max_frames and k >= selection.max_frames:
            break
        chosen.append(max(frame.frame for frame in frames if frame.pts_seconds <= moment + TOLERANCE))
    return chosen


@given(GAPS, RATES, SECONDS, STARTS, st.integers(0, 30))
def test_every_target_gets_the_frame_that_is_on_screen(gaps, rate, seconds, start, cap) -> None:
    frames = timeline(gaps)
    selection = Selection(Fraction(rate), seconds, start, cap)
    assert taken(frames, selection) == by_hand(frames, selection)


@given(GAPS, SECONDS, STARTS, st.integers(0, 30))
def test_fps_zero_takes_each_frame_that_is_shown_in_the_span_once(gaps, seconds, start, cap) -> None:
    frames = timeline(gaps)
    chosen = taken(frames, Selection(Fraction(0), seconds, start, cap))
    stop = start + seconds if seconds else Fraction(10**9)
    shown = [
        f.frame
        for f in frames
        if f.pts_seconds + f.duration_seconds > start + TOLERANCE and f.pts_seconds + TOLERANCE < stop
    ]
    assert chosen == (shown[:cap] if cap else shown)


@given(GAPS, RATES, STARTS)
def test_frames_never_go_back_in_time(gaps, rate, start) -> None:
    chosen = taken(timeline(gaps), Selection(Fraction(rate), start=start))
    assert chosen == sorted(chosen)


@settings(max_examples=30)
@given(st.sampled_from([24, 25, 30, 50, 60]), st.integers(1, 60), st.integers(1, 4))
def test_a_long_enough_video_gives_exactly_seconds_times_fps_frames(source, fps, seconds) -> None:
    frames = timeline([Fraction(1, source)] * (source * 4))
    assert len(taken(frames, Selection(Fraction(fps), Fraction(seconds)))) == fps * seconds


@given(GAPS, RATES, SECONDS, st.integers(0, 30))
def test_the_expected_count_is_never_too_low(gaps, rate, seconds, cap) -> None:
    frames = timeline(gaps)
    selection = Selection(Fraction(rate), seconds, max_frames=cap)
    end = frames[-1].pts_seconds + frames[-1].duration_seconds
    assert selection.count_until(end, Fraction(rate)) >= len(taken(frames, selection))


def test_reading_stops_one_frame_after_the_last_target() -> None:
    read = []

    def endless():
        for i in range(10**6):
            read.append(i)
            yield TimedFrame(Fraction(i, 24), Fraction(1, 24), i)

    assert len(list(frames_played_at(endless(), Selection(Fraction(8), Fraction(1))))) == 8
    assert len(read) == 23  # frame 21 is on screen at 7/8 s, and 22 shows that it has gone


def test_twenty_four_to_eight_takes_every_third_frame_from_the_first() -> None:
    frames = timeline([Fraction(1, 24)] * 24)
    assert taken(frames, Selection(Fraction(8))) == [0, 3, 6, 9, 12, 15, 18, 21]


def test_twelve_to_twenty_four_shows_each_frame_twice() -> None:
    frames = timeline([Fraction(1, 12)] * 4)
    assert taken(frames, Selection(Fraction(24))) == [0, 0, 1, 1, 2, 2, 3, 3]


@given(st.lists(st.fractions(0, Fraction(1, 4000), max_denominator=10**6), min_size=1, max_size=25))
def test_fps_zero_takes_frames_however_short_they_are_shown(gaps) -> None:
    """Several may share a time, and the clock of a file may run too fast."""
    frames = timeline(gaps)
    assert taken(frames, Selection(Fraction(0))) == list(range(len(gaps)))
    middle = frames[len(frames) // 2].pts_seconds
    later = [timed.frame for timed in frames if timed.pts_seconds >= middle]
    assert taken(frames, Selection(Fraction(0), start=middle)) == later


def test_fps_zero_takes_the_frame_on_screen_however_few_seconds_are_asked_for() -> None:
    frames = timeline([Fraction(1, 12)] * 4)
    assert taken(frames, Selection(Fraction(0), Fraction(1, 10_000))) == [0]
    assert taken(frames, Selection(Fraction(0), Fraction(1, 10_000), start=Fraction(1, 8))) == [1]
    assert taken(frames, Selection(Fraction(0), Fraction(1, 10_000), start=Fraction(1, 6))) == [2]


def test_seconds_are_the_decimal_that_was_typed() -> None:
    assert Selection(exact_rate(10.0), exact_seconds(1.1)).count() == 11
    assert exact_rate(24000 / 1001) == Fraction(24000, 1001)
    assert exact_rate(23.976) == Fraction(2997, 125)
