"""How subjects and cameras move, and where the content is seen to go."""

from __future__ import annotations

import pytest
import torch

from fast_animatediff.tests.tiny.made_clips import attributes_of
from fast_animatediff.tiny.domain.motions import (
    CAMERA_RATES,
    camera_at,
    content_flow,
    subject_at,
    subject_velocity,
)
from fast_animatediff.tiny.domain.render import render, scene_points
from fast_animatediff.tiny.domain.scenes import (
    MOTIONS,
    SHAPES,
    SPEEDS,
    draw_attributes,
    draw_scenes,
    seeded,
)
from fast_animatediff.tiny.shipped import CAMERA_MOVES


@pytest.mark.parametrize(
    ("motion", "sign_x", "sign_y"), [("left", -1, 0), ("right", 1, 0), ("up", 0, -1), ("down", 0, 1)]
)
def test_the_subject_moves_the_way_its_name_says_and_stays_in_the_picture(
    motion: str, sign_x: int, sign_y: int
) -> None:
    scenes = draw_scenes(seeded(motion), attributes_of(50, motion=MOTIONS.index(motion)), 16)
    path = subject_at(scenes, torch.arange(16.0).expand(50, 16))
    for coordinate, sign in ((path.x, sign_x), (path.y, sign_y)):
        assert torch.equal(coordinate.diff(dim=1).sign(), torch.full((50, 15), float(sign)))
        assert coordinate.min() > 0.1 and coordinate.max() < 0.9


def test_slowly_is_half_as_far() -> None:
    far = []
    for speed in range(len(SPEEDS)):
        scenes = draw_scenes(
            seeded("speed"), attributes_of(1, motion=MOTIONS.index("right"), speed=speed), 16
        )
        path = subject_at(scenes, torch.tensor([[0.0, 15.0]])).x
        far.append((path[0, 1] - path[0, 0]).item())
    assert far[0] * 2 == pytest.approx(far[1])


def test_growing_grows_circling_comes_round_and_still_stands() -> None:
    frames = torch.arange(21.0)[None]
    subjects = {
        name: subject_at(draw_scenes(seeded(name), attributes_of(1, motion=MOTIONS.index(name)), 32), frames)
        for name in ("grow", "round", "still")
    }
    assert (subjects["grow"].radius.diff() > 0).all()
    circle = subjects["round"]
    assert circle.x[0, 0] == pytest.approx(circle.x[0, 20].item(), abs=1e-5)
    assert circle.x.max() - circle.x.min() > 0.25
    assert subjects["still"].x.diff().abs().max() == 0


def test_a_subjects_velocity_is_the_slope_of_its_path() -> None:
    attributes = draw_attributes(seeded("velocity"), 60)
    scenes = draw_scenes(seeded("velocity"), attributes, 16)
    frames, dt = torch.arange(16.0), 0.01
    before, after = (subject_at(scenes, (frames + shift).expand(60, -1)) for shift in (-dt / 2, dt / 2))
    slope = torch.stack([after.x - before.x, after.y - before.y], dim=-1) / dt
    assert (subject_velocity(attributes, frames) - slope).abs().max() < 1e-3 and slope.abs().max() > 0.02


def test_camera_moves_come_in_opposite_pairs() -> None:
    scenes = draw_scenes(seeded("camera"), attributes_of(1), 16)
    frames = torch.tensor([[0.0, 15.0]])
    ends = {}
    for move, (axis, sign) in CAMERA_MOVES.items():
        camera = camera_at(scenes, frames, axis, sign)
        ends[move] = {
            "zoom": (camera.zoom[0, 1] - camera.zoom[0, 0]).item(),
            "roll": (camera.roll[0, 1] - camera.roll[0, 0]).item(),
            "pan": (camera.x[0, 1] - camera.x[0, 0]).item(),
            "tilt": (camera.y[0, 1] - camera.y[0, 0]).item(),
        }[axis]
    assert ends["ZoomIn"] > 0.3 and ends["ZoomOut"] == pytest.approx(-ends["ZoomIn"])
    assert ends["PanRight"] == pytest.approx(0.18) == pytest.approx(-ends["PanLeft"])
    assert ends["TiltDown"] == pytest.approx(0.18) == pytest.approx(-ends["TiltUp"])  # y goes down
    assert ends["RollingClockwise"] == pytest.approx(0.75) == pytest.approx(-ends["RollingAnticlockwise"])


def test_the_contents_flow_is_where_the_scene_is_seen_to_go() -> None:
    """Follows points of the scene from one frame to the next."""
    scenes = draw_scenes(seeded("flow"), attributes_of(1), 16)
    side, dt = 8, 0.01
    for axis in CAMERA_RATES:
        ends = camera_at(scenes, torch.tensor([[7.5 - dt / 2, 7.5 + dt / 2]]), axis)
        x, y = scene_points(ends, side)  # (1, 2, side * side): the scene's point under each place
        flow = content_flow(axis, side).reshape(-1, 2)
        # What is under a place later was elsewhere before: seen from the scene, places move against the content.
        moved = torch.stack([x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]], dim=-1) / dt
        assert (moved + flow).abs().max() < 0.02 * flow.abs().max() + 1e-4, axis


def test_when_the_camera_pans_left_the_scene_goes_right() -> None:
    scenes = draw_scenes(seeded("pan"), attributes_of(1, pattern=2), 16)
    before, after = render(scenes, torch.tensor([[5.0, 10.0]]), 100, "pan", -1.0)[0]
    assert (after[..., 6:] - before[..., :-6]).abs().mean() < 0.01  # 0.012 of 100 pixels, five frames on
    assert (after - before).abs().mean() > 0.02


def test_when_the_camera_tilts_up_the_scene_goes_down() -> None:
    scenes = draw_scenes(seeded("tilt"), attributes_of(1, pattern=2), 16)
    before, after = render(scenes, torch.tensor([[5.0, 10.0]]), 100, "tilt", -1.0)[0]
    assert (after[..., 6:, :] - before[..., :-6, :]).abs().mean() < 0.01


def test_when_the_camera_rolls_clockwise_the_scene_turns_anticlockwise() -> None:
    """A quarter of a turn, seen from the middle of the clip."""
    scenes = draw_scenes(seeded("roll"), attributes_of(1, pattern=2, shape=SHAPES.index("square")), 16)
    middle, later = render(scenes, torch.tensor([[7.5, 7.5 + 1.5708 / CAMERA_RATES["roll"]]]), 100, "roll")[0]
    disc = (
        torch.hypot(*torch.meshgrid(torch.arange(100) - 49.5, torch.arange(100) - 49.5, indexing="ij")) < 45
    )
    assert (later - middle.rot90(1, (1, 2)))[:, disc].abs().mean() < 0.01
