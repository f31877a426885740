"""The score card of the tiny family: how well it follows held-out prompts, measured without a learned judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..domain.captions import plain_caption
from ..domain.measures import camera_speed, falls, judge, mean, psnr, share
from ..domain.render import render
from ..domain.scenes import (
    COLOURS,
    MOTIONS,
    Attributes,
    Scenes,
    before_textures,
    draw_attributes,
    draw_scenes,
    seeded,
)
from ..domain.subjects import find_subject, path_correlation, path_distance
from ..shipped import CAMERA_MOVES

FRAMES, LONG = 16, 48
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)

Card = dict[str, float]


@dataclass(frozen=True)
class Request:
    """One clip to be made.

    asked: of one scene, what `caption` says. video: (f, 3, h, w), the input of video to video; edges: whether the ControlNet
    sees those of its frames.
    """

    caption: str
    asked: Attributes
    seed: int
    turbo: bool = False
    motion_strength: float = 1.0
    motion_lora: str | None = None
    lora_strength: float = 1.0
    video: Tensor | None = None
    strength: float = 0.7
    edges: bool = False


# Makes the clip of a request, (f, 3, h, w) in 0..1.
Maker = Callable[[Request], Tensor]


def held_out(seed: str, n: int) -> list[Attributes]:
    attributes = draw_attributes(seeded("score", seed), n, held_out=True)
    return [attributes.at(i) for i in range(n)]


def score_text(make: Maker, n: int, turbo: bool = False) -> Card:
    """Text to video on held-out captions: percentages, the mean error of the speed, and how still the picture is."""
    verdicts = [
        judge(make(Request(plain_caption(asked, 0), asked, seed=1000 + i, turbo=turbo)), asked)
        for i, asked in enumerate(held_out("text", n))
    ]
    return {
        "clips": n,
        "clips with a direction": sum(v.direction is not None for v in verdicts),
        "colour right, %": share([v.colour for v in verdicts]),
        "shape right, %": share([v.shape for v in verdicts]),
        "direction right, %": share([v.direction for v in verdicts]),
        "movement right, %": share([v.movement for v in verdicts]),
        "speed off by, %": 100 * mean([v.speed_error for v in verdicts]),
        "change from frame to frame": mean([v.jitter for v in verdicts]),
        "background drift": mean([v.drift for v in verdicts]),
    }


def score_motion_strength(make: Maker, n: int) -> Card:
    """How much more the frames change without the motion module: the median of the clips' ratios."""
    ratios = []
    for i, asked in enumerate(held_out("text", n)):
        request = Request(plain_caption(asked, 0), asked, seed=1000 + i)
        with_module = judge(make(request), asked).jitter
        without = judge(make(replace(request, motion_strength=0.0)), asked).jitter
        ratios.append(without / max(with_module, 1e-6))  # a clip may stand perfectly still
    return {
        "clips": n,
        "change from frame to frame, strength 0 against 1": float(torch.tensor(ratios).median()),
    }


def score_camera(make: Maker, n: int) -> Card:
    """Each motion LoRA: how often the camera moves its way at strength 1, and at 0 and -1; how fast at each strength.

    The clips at 0 are the same for all.
    """
    rng = seeded("score", "camera")
    scenes = before_textures(rng, draw_attributes(rng, n, held_out=True))

    def clips(move: str, strength: float) -> list[Tensor]:
        return [
            make(Request(plain_caption(asked, 0), asked, 2000 + i, motion_lora=move, lora_strength=strength))
            for i, asked in enumerate(map(scenes.at, range(n)))
        ]

    at_rest = clips(next(iter(CAMERA_MOVES)), 0.0)
    card: Card = {"clips of each": n}
    for move, (axis, sign) in CAMERA_MOVES.items():
        by_strength = {
            strength: clips(move, strength) if strength else at_rest for strength in (-1.0, 0.0, 0.5, 1.0)
        }
        right, rates = {}, {}
        for strength, of_strength in by_strength.items():
            speeds = [camera_speed(clip, axis) for clip in of_strength]
            right[strength] = share([moves_along and rate * sign > 0 for moves_along, rate in speeds])
            rates[strength] = mean([rate * sign for _, rate in speeds])
        card[f"{move}: right at 1, %"] = right[1.0]
        card[f"{move}: the same way at 0, %"] = right[0.0]
        card[f"{move}: the same way at -1, %"] = right[-1.0]
        card |= {f"{move}: rate at {strength:g}": rate for strength, rate in rates.items()}
        card[f"{move}: grows with strength"] = float(falls([-rate for rate in rates.values()]))
    return card


def score_video(make: Maker, n: int, size: int) -> Card:
    """Video to video: another colour asked for, the path kept; less like the input the higher the strength.

    The clips show held-out combinations, but the colours asked for are not held out: that applies to movements of coloured
    shapes, and these captions name no movement, which comes from the input.
    """
    correlations, distances, colours, shapes, likeness = [], [], [], [], []
    for i in range(n):
        scenes, video = input_clip(i, size)
        asked = scenes.attributes
        changed = in_another_colour(asked)
        caption = plain_caption(changed, 0, motion=False)
        results = {
            strength: make(Request(caption, changed, 3000 + i, video=video, strength=strength))
            for strength in STRENGTHS
        }
        before, after = find_subject(video), find_subject(results[0.7])
        correlations.append(path_correlation(before, after))
        distances.append(path_distance(before, after))
        verdict = judge(results[0.7], changed)
        colours.append(verdict.colour)
        shapes.append(verdict.shape)
        likeness.append([psnr(results[strength], video) for strength in STRENGTHS])
    card = {
        "clips of each strength": n,
        "path correlation at 0.7": mean(correlations),
        "path kept (0.9 and more) at 0.7, %": share([value >= 0.9 for value in correlations]),
        "path off by at 0.7, sides": mean(distances),
        "colour as asked at 0.7, %": share(colours),
        "shape as asked at 0.7, %": share(shapes),
        "likeness falls with strength, %": share([falls(values) for values in likeness]),
    }
    means = torch.tensor(likeness).mean(0).tolist()
    return card | {f"likeness at {s:g}, dB": value for s, value in zip(STRENGTHS, means, strict=True)}


def score_edges(make: Maker, n: int, size: int) -> Card:
    """Video to video with the edge ControlNet, another colour asked for: one window of 16 frames, and 48 frames in windows."""
    card: Card = {"clips of each length": n}
    for frames in (FRAMES, LONG):
        correlations, colours = [], []
        for i in range(n):
            scenes, video = input_clip(100 + i, size, frames)
            changed = in_another_colour(scenes.attributes)
            caption = plain_caption(changed, 0, motion=False)
            result = make(Request(caption, changed, 5000 + i, video=video, edges=True))
            correlations.append(path_correlation(find_subject(video), find_subject(result)))
            colours.append(judge(result, changed).colour)
        card |= {
            f"{frames} frames: path correlation": mean(correlations),
            f"{frames} frames: path kept (0.9 and more), %": share([value >= 0.9 for value in correlations]),
            f"{frames} frames: colour as asked, %": share(colours),
        }
    return card


def in_another_colour(shown: Attributes) -> Attributes:
    return replace(shown, colour=(shown.colour + 3) % len(COLOURS))


def input_clip(number: int, size: int, frames: int = FRAMES) -> tuple[Scenes, Tensor]:
    """A held-out scene with a subject that moves, and its clip, (frames, 3, size, size); a longer one goes there and back,
    since a straight path would leave the picture."""
    for attempt in range(1000):
        rng = seeded("score", "video", number, attempt)
        asked = draw_attributes(rng, 1, held_out=True)
        if MOTIONS[asked.motion[0]] not in ("still", "grow"):
            times = path_times(frames)
            scenes = draw_scenes(rng, asked, int(times.max()) + 1)
            return scenes, render(scenes, times[None], size)[0]
    raise RuntimeError("No scene with a moving subject was drawn.")


def path_times(frames: int) -> Tensor:
    """The moments of the path that an input clip's frames show: one after the other, or there and back."""
    if frames == FRAMES:
        return torch.arange(float(frames))
    there = torch.arange(float(frames // 2))
    return torch.cat([there, there.flip(0)])


# ---- the card


def make_card(make: Maker, n: int, size: int) -> dict[str, Card]:
    """All sections; `n` clips for each question."""
    return {
        "text to video, 25 steps": score_text(make, n),
        "turbo text to video, 8 steps": score_text(make, n, turbo=True),
        "motion strength": score_motion_strength(make, max(n // 4, 1)),
        "motion LoRAs": score_camera(make, max(n // 4, 1)),
        "video to video": score_video(make, max(n // 2, 1), size),
        "video to video with edges": score_edges(make, n, size),
    }


def show(card: dict[str, Card]) -> str:
    lines = []
    for title, numbers in card.items():
        lines += [title, *(f"  {name:<50} {value:8.3f}" for name, value in numbers.items())]
    return "\n".join(lines)
