"""Makes the pictures of the README, the help pages and the templates: `run_in_pack.py tiny.scoring.gallery --base DIR`.

Asks a real ComfyUI server through the pack's own workflow files, as the demo does; DIR is a base directory with the
models, as `python3 dev.py demo` makes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...dev_server.client import Client
from ...dev_server.clip import MP4_FPS, SIZE
from ...dev_server.demo import SEED, TEXT_PROMPT, WORKFLOWS, nodes, text_to_video, video_to_video
from ...dev_server.host import ROOT, base_folder, host_folder
from ...dev_server.server import ComfyServer
from ...dev_server.set_up import clips, set_up
from ..domain.captions import plain_caption
from ..domain.scenes import before_textures, draw_attributes, seeded
from ..shipped import CAMERA_MOVES
from .score_card import Request
from .workflow_maker import FPS, WorkflowMaker, read_clip

PICTURES = ROOT / "nodes" / "web" / "docs"
THUMBNAILS = ROOT / "workflows"
SIDE, LABEL, GAP = 128, 20, 6  # pixels of a clip, of the line below it, and between two
PAPER, INK = (24, 24, 27), (228, 228, 231)
THUMBNAIL = (800, 450)
STRENGTHS = (0.3, 0.5, 0.7, 0.9)
MOTION_STRENGTHS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Panel:
    """A clip (f, 3, h, w) in 0..1 and its label."""

    label: str
    clip: Tensor


class Gallery:
    """The clips that the pictures show. base: the server's base directory."""

    def __init__(self, client: Client, base: Path) -> None:
        self.make = WorkflowMaker(client, base, SIZE)
        self.file = clips(base)[0]
        self.video = read_clip(self.file)[:: MP4_FPS // FPS]

    def re_animated(self, strength: float) -> Tensor:
        prompt = video_to_video(self.file)
        for sampler in nodes(prompt, "FAD_Sampler"):
            sampler["strength"] = strength
        return self.make.run(prompt)

    def prompt_travel(self) -> Tensor:
        prompt = json.loads((WORKFLOWS / "text-to-video-with-prompt-travel.json").read_text(encoding="utf-8"))
        for schedule in nodes(prompt, "FAD_PromptSchedule"):
            last = schedule["num_frames"] - 1
            schedule |= {"schedule": f"0: red\n{last // 2}: yellow\n{last}: green", "before": "a large"}
            schedule |= {"after": "circle moving left slowly on a cloudy navy background"}
        for latent in nodes(prompt, "FAD_EmptyVideoLatent"):
            latent |= {"video_size": "custom", "width": SIZE, "height": SIZE}
        for sampler in nodes(prompt, "FAD_Sampler"):
            sampler["seed"] = SEED
        return self.make.run(prompt)

    def camera(self) -> list[Panel]:
        rng = seeded("gallery")
        asked = before_textures(rng, draw_attributes(rng, 1))
        still = Request(plain_caption(asked, 0), asked, seed=1)
        return [Panel(move, self.make(replace(still, motion_lora=move))) for move in CAMERA_MOVES]

    def motion_strengths(self) -> list[Panel]:
        asked = draw_attributes(seeded("gallery"), 1)
        request = Request(TEXT_PROMPT, asked, seed=1)
        return [
            Panel(f"strength {strength:g}", self.make(replace(request, motion_strength=strength)))
            for strength in MOTION_STRENGTHS
        ]


# ---- pictures of panels


def animation(panels: list[Panel], columns: int) -> list[Image.Image]:
    """One picture for each frame: the panels in rows, their labels below them."""
    rows = -(-len(panels) // columns)
    size = (columns * (SIDE + GAP) + GAP, rows * (SIDE + LABEL + GAP) + GAP)
    frames = []
    for number in range(min(len(panel.clip) for panel in panels)):
        picture = Image.new("RGB", size, PAPER)
        for i, panel in enumerate(panels):
            x, y = GAP + i % columns * (SIDE + GAP), GAP + i // columns * (SIDE + LABEL + GAP)
            picture.paste(enlarged(panel.clip[number], SIDE), (x, y))
            write(picture, panel.label, x, y + SIDE + 3)
        frames.append(picture)
    return frames


def write(picture: Image.Image, text: str, x: int, y: int) -> None:
    ImageDraw.Draw(picture).text((x + SIDE / 2, y), text, INK, ImageFont.load_default(13), anchor="ma")


def enlarged(frame: Tensor, side: int) -> Image.Image:
    pixels = (frame * 255).round().byte().movedim(0, -1).contiguous().numpy()
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def save_webp(name: str, frames: list[Image.Image]) -> Path:
    path = PICTURES / f"{name}.webp"
    first, *rest = frames
    first.save(path, save_all=True, append_images=rest, duration=1000 // FPS, loop=0, quality=70, method=6)
    return path


def save_thumbnail(template: str, rows: list[Tensor]) -> Path:
    """Frames of each clip side by side, one row per clip; a single clip fills two rows."""
    shown = rows if len(rows) > 1 else [rows[0][: len(rows[0]) // 2], rows[0][len(rows[0]) // 2 :]]
    side = (THUMBNAIL[1] - 3 * GAP) // 2
    columns = THUMBNAIL[0] // (side + GAP)
    picture = Image.new("RGB", THUMBNAIL, PAPER)
    left = (THUMBNAIL[0] - columns * (side + GAP) + GAP) // 2
    for row, clip in enumerate(shown):
        for column, number in enumerate(torch.linspace(0, len(clip) - 1, columns).round().int().tolist()):
            place = (left + column * (side + GAP), GAP + row * (side + GAP))
            picture.paste(enlarged(clip[number], side), place)
    path = THUMBNAILS / f"{template}.jpg"
    picture.save(path, quality=85)
    return path


def make_gallery(gallery: Gallery) -> Iterator[Path]:
    """Writes every picture; yields its path when it is there."""
    made = {strength: gallery.re_animated(strength) for strength in STRENGTHS}
    panels = [Panel("the video", gallery.video)]
    yield save_webp("video_to_video", animation([*panels, Panel("re-animated", made[0.7])], 2))
    panels += [Panel(f"strength {strength:g}", clip) for strength, clip in made.items()]
    yield save_webp("strength", animation(panels, len(panels)))
    turbo = gallery.make.run(text_to_video())
    yield save_webp("turbo", animation([Panel("8 steps", turbo)], 1))
    camera = gallery.camera()
    yield save_webp("motion_loras", animation(camera, 4))
    strengths = gallery.motion_strengths()
    yield save_webp("motion_strength", animation(strengths, len(strengths)))
    yield save_thumbnail("Video to Video", [gallery.video, made[0.7]])
    yield save_thumbnail("Turbo Text to Video", [turbo])
    yield save_thumbnail("Text to Video", [strengths[-1].clip])
    yield save_thumbnail("Text to Video with Prompt Travel", [gallery.prompt_travel()])
    turbo_video = gallery.make.run(video_to_video(gallery.file, "turbo-video-to-video"))
    yield save_thumbnail("Turbo Video to Video", [gallery.video, turbo_video])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=base_folder(), metavar="DIR")
    options = parser.parse_args(arguments)
    base = options.base.resolve()
    try:
        set_up(base)
        with ComfyServer(host_folder(), base) as server:
            for path in make_gallery(Gallery(server.client, base)):
                print(f"  {path.relative_to(ROOT)}  {path.stat().st_size / 1e3:.0f} kB", flush=True)
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
