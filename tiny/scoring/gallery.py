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

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...dev_server.client import Client
from ...dev_server.clip import MP4_FPS, SIZE
from ...dev_server.demo import (
    SEED,
    TEXT_PROMPT,
    VIDEO_PROMPT,
    WORKFLOWS,
    nodes,
    text_to_video,
    video_to_video,
)
from ...dev_server.host import ROOT, base_folder, host_folder
from ...dev_server.server import ComfyServer
from ...dev_server.set_up import clips, set_up
from ..domain.captions import plain_caption
from ..domain.edges import HIGH, LOW
from ..domain.scenes import before_textures, draw_attributes, seeded
from ..shipped import CAMERA_MOVES
from .score_card import Request
from .workflow_maker import FPS, WorkflowMaker, read_clip

PICTURES = ROOT / "nodes" / "web" / "docs"
TEMPLATE = str(ROOT / "workflows" / "AnimateDiff SD1.5 {}.jpg")  # the only ending that the page looks for
SIDE, LABEL, GAP = 128, 20, 6  # pixels of a clip, of the line below it, and between two
PAPER, INK = (24, 24, 27), (228, 228, 231)
THUMBNAIL = 320
TEXT_TEMPLATES = {
    "Text to Video Two Passes": "text-to-video-two-passes",
    "Text to Video GIF Loop": "text-to-video-gif-loop",
}
VIDEO_TEMPLATES = {
    "Turbo Video to Video": "turbo-video-to-video",
    "Video to Video ControlNet": "video-to-video-controlnet",
    "Video to Video Unsampling": "video-to-video-unsampling",
}
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

    def template(self, workflow: str, text: str) -> Tensor:
        """The clip of a template at the size that the models know."""
        prompt = json.loads((WORKFLOWS / f"{workflow}.json").read_text(encoding="utf-8"))
        for node in prompt.values():
            if node["_meta"]["title"] == "Prompt":
                node["inputs"]["text"] = text
        for loader in nodes(prompt, "FAD_LoadVideoFrames"):
            loader |= {"file": self.file.name, "size": "source"}
        for canny in nodes(prompt, "Canny"):
            canny |= {"low_threshold": LOW, "high_threshold": HIGH}
        for latent in nodes(prompt, "FAD_EmptyVideoLatent"):
            latent |= {"video_size": "custom", "width": SIZE, "height": SIZE}
        for sampler in nodes(prompt, "FAD_Sampler"):
            sampler["seed"] = SEED
        for export in nodes(prompt, "FAD_ExportVideo"):
            export["format"] = "mp4"
        return self.make.run(prompt)

    def prompt_travel(self) -> Tensor:
        prompt = json.loads((WORKFLOWS / "text-to-video-prompt-travel.json").read_text(encoding="utf-8"))
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


def save_webp(path: Path, frames: list[Image.Image]) -> Path:
    first, *rest = frames
    options = {"append_images": rest, "duration": 1000 // FPS, "loop": 0, "quality": 70, "method": 6}
    first.save(path, "WEBP", save_all=True, **options)
    return path


def save_thumbnail(template: str, clip: Tensor, source: Tensor | None = None) -> Path:
    """A clip in a square that moves, with what it was made of in a corner: WebP in a file that is named as a JPEG."""
    frames = [enlarged(frame, THUMBNAIL) for frame in clip]
    if source is not None:
        inset = THUMBNAIL * 3 // 8
        for picture, frame in zip(frames, source, strict=False):
            picture.paste(PAPER, (GAP, THUMBNAIL - inset - 2 * GAP, inset + 2 * GAP, THUMBNAIL - GAP))
            picture.paste(
                enlarged(frame, inset - GAP), (GAP + GAP // 2 + 1, THUMBNAIL - inset - GAP - GAP // 2 + 1)
            )
    return save_webp(Path(TEMPLATE.format(template)), frames)


def make_gallery(gallery: Gallery) -> Iterator[Path]:
    """Writes every picture; yields its path when it is there."""
    made = {strength: gallery.re_animated(strength) for strength in STRENGTHS}
    panels = [Panel("the video", gallery.video)]
    yield save_webp(
        PICTURES / "video_to_video.webp", animation([*panels, Panel("re-animated", made[0.7])], 2)
    )
    panels += [Panel(f"strength {strength:g}", clip) for strength, clip in made.items()]
    yield save_webp(PICTURES / "strength.webp", animation(panels, len(panels)))
    turbo = gallery.make.run(text_to_video())
    yield save_webp(PICTURES / "turbo.webp", animation([Panel("8 steps", turbo)], 1))
    camera = gallery.camera()
    yield save_webp(PICTURES / "motion_loras.webp", animation(camera, 4))
    strengths = gallery.motion_strengths()
    yield save_webp(PICTURES / "motion_strength.webp", animation(strengths, len(strengths)))
    yield save_thumbnail("Video to Video", made[0.7], gallery.video)
    yield save_thumbnail("Turbo Text to Video", turbo)
    yield save_thumbnail(
        "Text to Video Slow Motion", turbo
    )  # there is no tiny model that makes frames between
    yield save_thumbnail("Text to Video", strengths[-1].clip)
    yield save_thumbnail("Text to Video Prompt Travel", gallery.prompt_travel())
    for template, workflow in TEXT_TEMPLATES.items():
        yield save_thumbnail(template, gallery.template(workflow, TEXT_PROMPT))
    for template, workflow in VIDEO_TEMPLATES.items():
        yield save_thumbnail(template, gallery.template(workflow, VIDEO_PROMPT), gallery.video)


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
