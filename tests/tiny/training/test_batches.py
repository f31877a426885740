"""Batches for training: what they show, what they never show, and what they depend on."""

from __future__ import annotations

import pytest
import torch

from fast_animatediff.tiny.domain.captions import (
    ACROSS,
    DOWN,
    NO_CAPTIONS,
    says_motion,
)
from fast_animatediff.tiny.domain.measures import camera_speed
from fast_animatediff.tiny.domain.scenes import (
    COLOURS,
    is_held_out,
)
from fast_animatediff.tiny.domain.subjects import find_subject, path_distance
from fast_animatediff.tiny.training.data import (
    PICTURES_PER_CAPTION,
    camera_clips,
    captioned_clips,
    captioned_pictures,
    edited_clips,
    picture_batch,
)
from fast_animatediff.tiny.training.diffusion import subject_weights

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def test_a_batch_depends_on_seed_stage_and_step_alone() -> None:
    first = captioned_clips(0, "motion", 7, 4, 8, 32, CPU)
    torch.rand(5)
    again = captioned_clips(0, "motion", 7, 4, 8, 32, CPU)
    assert torch.equal(first.clips, again.clips) and first.captions == again.captions
    for other in (
        captioned_clips(1, "motion", 7, 4, 8, 32, CPU),
        captioned_clips(0, "turbo", 7, 4, 8, 32, CPU),
        captioned_clips(0, "motion", 8, 4, 8, 32, CPU),
    ):
        assert not torch.equal(first.clips, other.clips)


def test_training_never_shows_a_held_out_combination() -> None:
    for step in range(20):
        for batch in (
            captioned_pictures(0, "images", step, 64, 16, CPU),
            captioned_clips(0, "motion", step, 32, 2, 16, CPU),
            camera_clips(0, "cameras", "pan", 1.0, step, 32, 2, 16, CPU),
            *edited_clips(0, "edits", step, 32, 2, 16, CPU),
        ):
            a = batch.attributes
            assert not is_held_out(a.shape, a.colour, a.motion).any()


def test_held_out_pictures_are_others_than_those_of_the_same_step_in_training() -> None:
    trained, _ = picture_batch(0, "vae", 0, 4, 32, CPU)
    held_out, _ = picture_batch(0, "vae", 0, 4, 32, CPU, held_out=True)
    assert not torch.equal(trained, held_out)


def test_pictures_are_in_range_and_of_the_size_asked_for() -> None:
    pictures, _ = picture_batch(0, "vae", 0, 16, 48, CPU)
    assert pictures.shape == (16, 3, 48, 48)
    assert 0 <= pictures.min() and pictures.max() <= 1
    assert pictures.std(dim=(1, 2, 3)).min() > 0.05


def test_camera_clips_go_as_their_sign_says_and_never_show_a_plain_background() -> None:
    for sign in (1.0, -1.0):
        batch = camera_clips(0, "cameras", "pan", sign, 0, 8, 16, 64, CPU)
        assert (batch.attributes.pattern > 0).all()
        speeds = [camera_speed(clip, "pan") for clip in batch.clips]
        assert all(along and 0.7 < rate * sign < 1.3 for along, rate in speeds), speeds
    with pytest.raises(ValueError, match="dolly"):
        camera_clips(0, "cameras", "dolly", 1.0, 0, 2, 2, 32, CPU)


def test_edited_clips_show_another_subject_on_the_path_before_the_background_that_is_asked_for() -> None:
    asked, shown = edited_clips(0, "edits", 0, 32, 16, 64, CPU)
    assert asked.captions == shown.captions and not any(map(says_motion, asked.captions))
    others = asked.attributes.colour != shown.attributes.colour
    assert others.float().mean() > 0.5
    assert (asked.attributes.shape != shown.attributes.shape).float().mean() > 0.2
    for i, text in enumerate(asked.captions):
        one, other = find_subject(asked.clips[i]), find_subject(shown.clips[i])
        assert path_distance(one, other) < 0.03
        subjects = torch.from_numpy(one.mask | other.mask).float()[:, None]
        background = torch.nn.functional.max_pool2d(subjects, 9, stride=1, padding=4) == 0
        assert torch.equal(asked.clips[i] * background, shown.clips[i] * background)
        if others[i]:
            assert one.colour in text and other.colour == tuple(COLOURS)[shown.attributes.colour[i]]
            assert (asked.clips[i] - shown.clips[i]).abs().max() > 0.3
        if text in NO_CAPTIONS:
            assert torch.equal(asked.clips[i], shown.clips[i])


def test_frames_are_picked_in_order_and_only_once() -> None:
    for step in range(10):
        frames = captioned_clips(0, "motion", step, 1, 8, 16, CPU).frames
        assert len(frames) == 8 and (frames.diff() > 0).all() and frames[-1] < 32


def test_pictures_show_the_subject_where_their_captions_say() -> None:
    batch = captioned_pictures(0, "spots", 0, 256, 64, CPU)
    found = [find_subject(picture[None]) for picture in batch.pictures]
    checked = 0
    for i, text in enumerate(batch.captions):
        for words, axis in ((ACROSS, "x"), (DOWN, "y")):
            for fifth, phrase in enumerate(words):
                if f" {phrase} " in f" {text} ".replace(",", " "):
                    shown = found[PICTURES_PER_CAPTION * i : PICTURES_PER_CAPTION * (i + 1)]
                    places = torch.tensor([getattr(subject, axis)[0] for subject in shown])
                    # Cut off by the edge, a subject's visible middle lies further in.
                    assert ((places - (0.1 + 0.8 * (fifth + 0.5) / 5)).abs() < 0.14).all(), text
                    checked += 1
    assert checked > 30


def test_the_subject_counts_most_in_a_loss() -> None:
    pictures = captioned_pictures(0, "weights", 0, 16, 64, CPU).pictures
    weights = subject_weights(pictures)
    assert weights.shape == (16, 1, 8, 8) and weights.mean().item() == pytest.approx(1, abs=1e-5)
    for picture, weight in zip(pictures, weights, strict=True):
        mask = torch.from_numpy(find_subject(picture[None]).mask)[0]
        touched = mask.view(8, 8, 8, 8).any(3).any(1)
        assert weight[0][touched].min() > 2 * weight[0][~touched].min()
