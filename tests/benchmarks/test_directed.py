"""Directed clips: each row runs in our contender, each direction changes the clip, and the table says what was found."""

from __future__ import annotations

import pytest
import torch

from fast_animatediff.benchmarks.compare import directed_clips, directions, jobs

PIXELS, STEPS = 16, 1
CASES = directions.make_cases(length=4)


@pytest.fixture(scope="session")
def control(size):
    return directions.make_control(size)


@pytest.fixture
def clip_of(our_contender, control):
    def make(case):
        job = jobs.Job(case.frames, PIXELS, PIXELS, STEPS)
        model, prompts = directions.our_model(our_contender, case, PIXELS), directions.our_prompts(case)
        return directed_clips.Clip(model, prompts, case, job, control, directions.our_control_strength)

    return make


def test_each_direction_changes_the_clip_and_is_measured_without_the_peer(clip_of):
    plain, *directed = [case for case in CASES if case.length][:7]  # in windows
    undirected = clip_of(plain).sample()
    for case in directed:
        latents = clip_of(case).sample()
        assert latents.shape == (9, 4, 2, 2) and latents.isfinite().all()
        assert directed_clips.largest_difference(latents, undirected) > 1e-3, case.name


def test_two_clips_are_measured_in_turns_and_the_table_says_whether_they_are_the_same(clip_of):
    case = CASES[0]
    found = directed_clips.measure(case, clip_of(case), clip_of(case), rounds=1)
    assert len(found["ours"]["seconds"]) == 2 and len(found["theirs"]["seconds"]) == 1
    assert found["difference"] == 0.0 and found["ours"]["peak_bytes"] == found["theirs"]["peak_bytes"] > 0
    assert "| nothing changes | 4 | 0.0e+00 | same |" in directed_clips.row(found)
    found["case"]["why"] = "they say so"
    assert "| SAME THOUGH A DIFFERENCE WAS EXPECTED |" in directed_clips.row(found)
    found["difference"] = 0.5
    assert "| they say so |" in directed_clips.row(found)
    found["case"]["why"] = ""
    assert "| DIFFERENT, UNEXPLAINED |" in directed_clips.row(found)


def test_without_the_peer_or_where_it_refuses_our_own_numbers_are_in_the_table(clip_of):
    class Refuses:
        def sample(self):
            raise ValueError("no such\n  control")

    found = directed_clips.measure(CASES[0], clip_of(CASES[0]), Refuses(), rounds=1)
    assert "| refused there: no such control |" in directed_clips.row(found)
    del found["refused"]
    assert "| not compared |" in directed_clips.row(found) and directed_clips.is_expected(found)


def test_the_compounded_prompts_are_those_of_a_blend_with_the_frame_before():
    case = directions.Case("", 5, prompts="compounded")
    first, second = jobs.conditions()
    expected, before = [first], first
    for part in (0.25, 0.5, 0.75, 1.0):
        before = torch.lerp(before, second, part)
        expected.append(before)
    assert torch.allclose(directions.our_prompts(case)[0][0], torch.cat(expected), atol=1e-6)
