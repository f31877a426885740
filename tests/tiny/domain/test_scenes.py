"""What is drawn: which combinations are held out, and how scenes look."""

from __future__ import annotations

import pytest
import torch

from fast_animatediff.tests.tiny.made_clips import attributes_of
from fast_animatediff.tiny.domain.render import render
from fast_animatediff.tiny.domain.scenes import (
    COLOURS,
    MOTIONS,
    PATTERNS,
    SHAPES,
    before_textures,
    combinations,
    draw_attributes,
    draw_scenes,
    is_held_out,
    seeded,
)


def test_a_sixth_is_held_out_and_every_shape_colour_and_motion_is_in_both_splits() -> None:
    held_out, trained = combinations(True), combinations(False)
    assert len(held_out) * 5 == len(trained)
    for split in (held_out, trained):
        for column, values in enumerate((SHAPES, COLOURS, MOTIONS)):
            assert len(split[:, column].unique()) == len(values)


def test_scenes_for_cameras_stay_on_their_side_of_what_is_held_out() -> None:
    for held_out in (False, True):
        rng = seeded("sides", held_out)
        a = before_textures(rng, draw_attributes(rng, 100, held_out=held_out))
        assert (is_held_out(a.shape, a.colour, a.motion) == held_out).all()
        assert (a.motion == MOTIONS.index("still")).any()


def test_edges_are_anti_aliased() -> None:
    """The area of a drawn circle is exact to far less than its pixels would allow."""
    scenes = draw_scenes(seeded("circle"), attributes_of(1, colour=tuple(COLOURS).index("white")), 16)
    frames = torch.zeros(1, 1)
    white = render(scenes, frames, 64)[0, 0].mean(0)
    ground = white[0, 0]
    covered = ((white - ground) / (white.max() - ground)).sum() / 64**2
    assert covered == pytest.approx(3.14159 * (0.95 * scenes.radius[0].item()) ** 2, rel=0.01)


def test_the_same_scene_looks_alike_at_two_sizes() -> None:
    scenes = draw_scenes(seeded("sizes"), draw_attributes(seeded("sizes"), 12), 16)
    small, large = (render(scenes, torch.zeros(12, 1), size)[:, 0] for size in (48, 96))
    assert (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean() < 0.02


def test_every_shape_colour_and_pattern_looks_different() -> None:
    for name, count in (("shape", len(SHAPES)), ("colour", len(COLOURS)), ("pattern", len(PATTERNS))):
        pictures = []
        for value in range(count):
            scenes = draw_scenes(seeded("alike"), attributes_of(1, **{name: value}), 16)
            pictures.append(render(scenes, torch.zeros(1, 1), 64)[0, 0])
        for i, one in enumerate(pictures):
            assert all((one - other).abs().mean() > 0.003 for other in pictures[:i])
