"""What a render says of its speed."""

from __future__ import annotations

from fast_animatediff.fleet.progress import Progress


def test_the_time_that_is_left_is_told_once_a_clip_is_made_and_not_by_those_that_fail_at_once() -> None:
    progress = Progress(total=4)
    progress.began -= 60
    progress.ended(done=False)
    assert progress.seconds_left() is None and "left" not in progress.line()
    progress.ended(done=True)
    assert 119 < progress.seconds_left() < 121
    assert progress.line().endswith("1.0 clips a minute, 2 min left")
