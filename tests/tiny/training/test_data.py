from __future__ import annotations

import random

import pytest
import torch

from comfy.sd1_clip import SD1Tokenizer
from fast_animatediff.tiny.domain.captions import (
    ACROSS,
    DOWN,
    NO_CAPTIONS,
    caption,
    draw_captions,
    host_tokens,
    plain_caption,
    says_motion,
    without_motion,
)
from fast_animatediff.tiny.domain.measures import camera_speed
from fast_animatediff.tiny.domain.motions import (
    CAMERA_RATES,
    camera_at,
    content_flow,
    subject_at,
    subject_velocity,
)
from fast_animatediff.tiny.domain.render import render, scene_points
from fast_animatediff.tiny.domain.scenes import (
    COLOURS,
    MOTIONS,
    PATTERNS,
    SHAPES,
    SPEEDS,
    Attributes,
    before_textures,
    combinations,
    draw_attributes,
    draw_scenes,
    is_held_out,
    seeded,
)
from fast_animatediff.tiny.domain.subjects import find_subject, path_distance
from fast_animatediff.tiny.shipped import CAMERA_MOVES
from fast_animatediff.tiny.training.data import (
    PICTURES_PER_CAPTION,
    camera_clips,
    captioned_clips,
    captioned_pictures,
    edited_clips,
    picture_batch,
)
from fast_animatediff.tiny.training.diffusion import subject_weights

CPU = torch.device("cpu")


def attributes_of(n: int, **values: int) -> Attributes:
    fields = ("shape", "colour", "size", "pattern", "tone", "motion", "speed")
    defaults = dict.fromkeys(fields, 0) | {"size": 1, "speed": 1} | values
    return Attributes(*(torch.full((n,), defaults[name]) for name in fields))


# ---- seeds and splits


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


def test_a_sixth_is_held_out_and_every_shape_colour_and_motion_is_in_both_splits() -> None:
    held_out, trained = combinations(True), combinations(False)
    assert len(held_out) * 5 == len(trained)
    for split in (held_out, trained):
        for column, values in enumerate((SHAPES, COLOURS, MOTIONS)):
            assert len(split[:, column].unique()) == len(values)


def test_held_out_pictures_are_others_than_those_of_the_same_step_in_training() -> None:
    trained, _ = picture_batch(0, "vae", 0, 4, 32, CPU)
    held_out, _ = picture_batch(0, "vae", 0, 4, 32, CPU, held_out=True)
    assert not torch.equal(trained, held_out)


# ---- pictures


def test_pictures_are_in_range_and_of_the_size_asked_for() -> None:
    pictures, _ = picture_batch(0, "vae", 0, 16, 48, CPU)
    assert pictures.shape == (16, 3, 48, 48)
    assert 0 <= pictures.min() and pictures.max() <= 1
    assert pictures.std(dim=(1, 2, 3)).min() > 0.05


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


# ---- movement


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


def test_a_caption_without_motion_says_all_but_that() -> None:
    attributes = draw_attributes(seeded("silent"), 60)
    for i in range(60):
        said = caption(attributes, i, random.Random(i))
        silent = without_motion(said)
        assert not says_motion(silent) and "slowly" not in silent and SHAPES[attributes.shape[i]] in silent
        assert (silent == said) == (not says_motion(said))


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


def test_scenes_for_cameras_stay_on_their_side_of_what_is_held_out() -> None:
    for held_out in (False, True):
        rng = seeded("sides", held_out)
        a = before_textures(rng, draw_attributes(rng, 100, held_out=held_out))
        assert (is_held_out(a.shape, a.colour, a.motion) == held_out).all()
        assert (a.motion == MOTIONS.index("still")).any()


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


# ---- captions


def test_captions_say_what_is_to_be_seen() -> None:
    a = attributes_of(
        1,
        shape=SHAPES.index("ring"),
        colour=tuple(COLOURS).index("yellow"),
        motion=MOTIONS.index("left"),
        speed=0,
    )
    assert plain_caption(a, 0) == "a yellow ring moving left slowly on a plain gray background"
    assert plain_caption(a, 0, motion=False) == "a yellow ring on a plain gray background"


def test_a_caption_always_names_colour_and_shape_of_its_own_scene() -> None:
    a = draw_attributes(seeded("captions"), 300)
    rng = random.Random(0)
    for i, text in enumerate(caption(a, i, rng) for i in range(len(a))):
        words = text.replace(",", " ").split()
        assert tuple(COLOURS)[a.colour[i]] in words and SHAPES[a.shape[i]] in words
        others = set(SHAPES) - {SHAPES[a.shape[i]]}
        assert not others & set(words)


def test_one_scene_is_described_in_many_ways() -> None:
    a = attributes_of(1, motion=MOTIONS.index("up"))
    texts = {caption(a, 0, random.Random(seed)) for seed in range(200)}
    assert len(texts) > 50
    assert 0.6 < sum(map(says_motion, texts)) / len(texts) < 0.95


def test_some_captions_say_nothing_so_that_guidance_has_what_to_leave() -> None:
    texts = draw_captions(draw_attributes(seeded("none"), 1000), random.Random(0))
    empty = [text for text in texts if text in NO_CAPTIONS]
    assert 60 < len(empty) < 200 and len(set(empty)) == 2


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


def test_tokens_are_those_of_the_hosts_tokenizer() -> None:
    texts = [*draw_captions(draw_attributes(seeded("tokens"), 200), random.Random(1)), *NO_CAPTIONS]
    tokenizer = SD1Tokenizer()
    expected = torch.tensor(
        [[token for token, _ in tokenizer.tokenize_with_weights(text)["l"][0]] for text in texts]
    )
    tokens = host_tokens()
    assert torch.equal(tokens(texts), expected)
    assert set(expected.flatten().tolist()) <= set(tokens.used) and len(tokens.used) < 150
    with pytest.raises(KeyError):
        tokens(["a panda"])
